"""Compiled spatial layers: the same numbers, once a kind, and what could not be compiled is said."""

import re

import torch
from diffusers import UNet3DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D

from harness import builders
from parallel.comm.group import Group
from parallel.families import folder
from parallel.job.job import Tuning
from parallel.layers import compiled
from parallel.layers.attention import Biases
from parallel.layers.compiled import Compiler
from parallel.layers.patch import patched
from parallel.layers.view import View
from parallel.maths.scope import Span
from parallel.models import unet3d
from parallel.sampler import load
from parallel.sampler.generate import Blocks, generate
from tests.test_tuning import job


def one_level() -> UNet3DConditionModel:
    """A UNet of few layers, and so soon compiled, of which two kinds are ResnetBlock2D."""
    blocks = {"down_block_types": ("CrossAttnDownBlock3D",), "up_block_types": ("CrossAttnUpBlock3D",)}
    sizes = {"layers_per_block": 1, "cross_attention_dim": 16, "attention_head_dim": 4, "norm_num_groups": 4}
    return builders.randomized(UNet3DConditionModel(sample_size=8, **blocks, block_out_channels=(8,), **sizes))


def call_compiled(net, compiler: Compiler) -> float:
    """Return how far a UNet with compiled layers is from itself without."""
    x, text = torch.randn(2, 4, 3, 16, 16), torch.randn(2, 5, 16)
    view = View(Group(0, 1, torch.device("cpu")), Span(3, 4, 0))
    with torch.inference_mode():
        expected = net(x, 500, encoder_hidden_states=text).sample
        with patched(unet3d.frame_changes(net, view, Biases(view), compiler=compiler)):
            made = net(x, 500, encoder_hidden_states=text).sample
    return float((made - expected).abs().max())


def test_every_kind_of_spatial_layer_is_compiled_once(monkeypatch):
    """With torch's own limit some are not, and said not to be. The next job has a compiler of its own, and uses what is there.

    That limit, 8, is lowered here: a small net has fewer kinds of ResnetBlock2D than a large one.
    """
    net, graphs = one_level(), []
    torch._dynamo.reset()

    def backend(graph, example):
        graphs.append(graph)
        return graph.forward

    with torch._dynamo.config.patch(recompile_limit=1):
        with monkeypatch.context() as limited:
            limited.setattr(compiled, "COMPILATIONS", 0)
            few = Compiler(backend)
            assert call_compiled(net, few) < 1e-4
        assert re.match(
            r"compile: \d of 9 spatial layers, [12] of 3 kinds, run uncompiled, .* \(ResnetBlock2D: ", few.account()
        )
        assert "recompile_limit" in few.account()
        for _ in range(2):
            compiler = Compiler(backend)
            assert call_compiled(net, compiler) < 1e-4
            assert compiler.account() == "compile: all 9 spatial layers, of 3 kinds, run compiled"
        assert torch._dynamo.config.recompile_limit == 1, "as it was"
    assert 3 <= len(graphs) <= 5, "one a kind; sizes that happen to be equal may take another"


def test_a_kind_of_layer_that_can_not_be_compiled_runs_as_it_is_and_is_named():
    torch._dynamo.reset()
    tried = []

    def backend(graph, example):
        tried.append(graph)
        raise RuntimeError("no kernel\nfor this\n\nand advice")

    x, embedded = torch.randn(2, 8, 4, 4), torch.randn(2, 4)
    blocks = [ResnetBlock2D(in_channels=8, out_channels=8, temb_channels=4, groups=4, eps=1e-5) for _ in range(2)]
    calls = [*((block, (x, embedded)) for block in blocks), (Upsample2D(8, use_conv=True), (x,))]
    compiler = Compiler(backend)
    compiled_layers = [(compiler(layer), layer, inputs) for layer, inputs in calls]
    for ours, layer, inputs in 2 * compiled_layers:
        assert torch.equal(ours(*inputs), layer(*inputs))
    told = compiler.account()
    assert told.startswith(
        "compile: 3 of 3 spatial layers, 2 of 2 kinds, run uncompiled, at their usual speed (ResnetBlock2D: "
    )
    assert "; Upsample2D: " in told and told.endswith("RuntimeError: no kernel for this)")
    assert len(tried) == 2, "once a kind, and not once a layer or a call"


def test_a_layer_that_torch_can_only_compile_in_parts_is_named_too():
    class Halting(torch.nn.Module):
        def forward(self, x):
            torch._dynamo.graph_break()
            return x + 1

    torch._dynamo.reset()
    compiler = Compiler("eager")
    layer = compiler(Halting())
    assert torch.equal(layer(torch.zeros(3)), torch.ones(3))
    assert compiler.account().startswith("compile: 1 of 1 spatial layers, 1 of 1 kinds, run uncompiled")


def test_compile_on_a_cpu_runs_without_and_says_so():
    small = job(frames=2, num_inference_steps=1, tuning=Tuning(compile=True))
    model = load.load(folder.check(small, 1), torch.float32)
    blocks, said = Blocks(torch.zeros(4, 2, 8, 8)), []
    report, alone = lambda *_: None, Group(0, 1, torch.device("cpu"))
    generate(model, small, blocks, alone, report=report, stopping=lambda: False, notify=said.append)
    assert said == ["compile: the ranks are on CPUs and run without; it is for GPUs"]
