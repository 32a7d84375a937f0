"""Compiled spatial layers: the same numbers, once a kind, and what could not be compiled is said."""

import re

import torch
from diffusers import UNet3DConditionModel

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


def four_levels() -> UNet3DConditionModel:
    """A narrow UNet with VideoCrafter2's levels, and so more kinds of ResnetBlock2D than torch compiles by default."""
    down = ("CrossAttnDownBlock3D", "DownBlock3D", "DownBlock3D", "DownBlock3D")
    up = ("UpBlock3D", "UpBlock3D", "UpBlock3D", "CrossAttnUpBlock3D")
    sizes = {"layers_per_block": 1, "cross_attention_dim": 16, "attention_head_dim": 4, "norm_num_groups": 4}
    net = UNet3DConditionModel(
        sample_size=8, down_block_types=down, up_block_types=up, block_out_channels=(8, 16, 32, 32), **sizes
    )
    return builders.randomized(net)


def call_compiled(net, compiler: Compiler, times: int = 1) -> float:
    """Return how far a UNet with compiled layers is from itself without."""
    x, text = torch.randn(2, 4, 3, 16, 16), torch.randn(2, 5, 16)
    view = View(Group(0, 1, torch.device("cpu")), Span(3, 4, 0))
    with torch.inference_mode():
        expected = net(x, 500, encoder_hidden_states=text).sample
        with patched(unet3d.frame_changes(net, view, Biases(view), compiler=compiler)):
            made = [net(x, 500, encoder_hidden_states=text).sample for _ in range(times)]
    return float((torch.stack(made) - expected).abs().max())


def test_every_kind_of_spatial_layer_is_compiled_once(monkeypatch):
    """With torch's own limit some are not, and said not to be. The next job has a compiler of its own, and uses what is there."""
    net, graphs = four_levels(), []
    torch._dynamo.reset()

    def backend(graph, example):
        graphs.append(graph)
        return graph.forward

    with monkeypatch.context() as limited:
        limited.setattr(compiled, "COMPILATIONS", 0)
        few = Compiler(backend)
        assert call_compiled(net, few) < 1e-4
    assert re.match(
        r"compile: [23] of 24 spatial layers, [23] of 17 kinds, run uncompiled, .* \(ResnetBlock2D: ", few.account()
    )
    assert "recompile_limit" in few.account()
    for _ in range(2):
        compiler = Compiler(backend)
        assert call_compiled(net, compiler) < 1e-4
        assert compiler.account() == "compile: all 24 spatial layers, of 17 kinds, run compiled"
    assert 17 <= len(graphs) <= 19, "one a kind; sizes that happen to be equal may take another"
    assert torch._dynamo.config.recompile_limit == 8, "as it was"


def test_a_kind_of_layer_that_can_not_be_compiled_runs_as_it_is_and_is_named():
    torch._dynamo.reset()
    tried = []

    def backend(graph, example):
        tried.append(graph)
        raise RuntimeError("no kernel\nfor this\n\nand advice")

    compiler = Compiler(backend)
    assert call_compiled(builders.unet(), compiler, times=2) < 1e-4
    kinds = len(compiler.kinds)
    told, layers = compiler.account(), sum(kind.modules for kind in compiler.kinds.values())
    assert told.startswith(f"compile: {layers} of {layers} spatial layers, {kinds} of {kinds} kinds, run uncompiled, at their")
    assert "; Upsample2D: " in told and told.endswith("RuntimeError: no kernel for this)")
    assert len(tried) == kinds < layers, "once a kind, and not once a layer or a call"


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
