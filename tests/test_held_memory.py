"""What a plan says of weights that stay as their file has them, and of LoRAs: against a count of what is there."""

import pytest
import torch

from harness import wan_files, wan_gguf, wan_loras
from harness.jobs import job
from harness.live import LiveBytes, bytes_at_once, bytes_of
from harness.tiny_files import Tiny, tiny_files
from parallel.comm.group import Group
from parallel.families import folder
from parallel.job.files import Lora
from parallel.job.job import Job, Tuning
from parallel.layers.offload import tensors_of
from parallel.maths.slices import CPU_BYTES
from parallel.models import lora, table
from parallel.plan import plan
from parallel.sampler.generate import Blocks, generate


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tiny:
    return tiny_files(tmp_path_factory.mktemp("held"))


@pytest.fixture(scope="module", params=["fp8", "blocks"])
def work(tiny, request) -> Job:
    """A job on a net whose matrices stay as their file has them: feed-forwards of 8 times a token's width, and a LoRA."""
    net = wan_files.net(ffn_dim=2048).state_dict()
    if request.param == "fp8":
        low, scales = wan_files.scaled(net)
        file = tiny.write("fp8", wan_files.spelled_old(wan_files.net_names(low), wan_files.net_names(scales)))
    else:
        file, _ = wan_gguf.save(wan_files.net_names(net), tiny.place / "mixed.gguf", ("Q8_0", "Q6_K", "Q4_K"))
    added = wan_loras.write(wan_loras.Parts(net), "kohya", tiny.place / f"{request.param}-lora.safetensors")
    size = {"height": 32, "width": 32, "frames": 9, "num_inference_steps": 1}
    return job(file, files=tiny.files, loras=(Lora(file=added, strength=0.5),), decode=False, guidance_scale=1.0, **size)


def test_the_weights_and_what_loras_add_are_those_that_are_there(work):
    host = folder.inspect(work.model, files=work.files)
    model, said = table.load(host, torch.float32), plan(work, 1).memory
    without = bytes_of(model.nets[0])
    model.adapt(work.loras, device=torch.device("cpu"), notify=lambda _: None)
    parts = (*model.nets, model.vae, model.text_encoder)
    assert said.weights == sum(map(bytes_of, parts)) > without
    assert bytes_of(model.nets[0]) - without == host.lora_bytes(host.transformer, work).branches > 0
    blocks = host.bytes_at_once(host.transformer, work, host.lora_bytes(host.transformer, work))
    assert blocks == bytes_at_once(model, model.nets[0])


def test_merged_weights_wait_as_they_were(work, monkeypatch):
    model, waited = table.load(folder.inspect(work.model, files=work.files), torch.float32), []
    monkeypatch.setattr(lora, "_restore", lambda parameter, before: waited.append(before.nbytes))
    model.adapt(work.loras, device=torch.device("cpu"), notify=lambda _: None)
    model.adapt((), device=torch.device("cpu"), notify=lambda _: None)
    assert plan(work, 1).memory.before_loras == sum(waited) > 0


def test_the_numbers_that_a_layer_makes_are_in_the_memory_to_denoise(work, tiny):
    """The same net without quantized weights makes none: there they are weights."""
    work = work.model_copy(update={"loras": (), "tuning": Tuning(pixels_at_once=2)})
    plain = tiny.write("plain", wan_files.net_names(wan_files.net(ffn_dim=2048).state_dict()))
    without = work.model_copy(update={"model": plain})
    said, measured = zip(*((plan(each, 1).memory.denoise - CPU_BYTES, peak(each)) for each in (work, without)))
    assert measured[0] == pytest.approx(said[0], rel=0.1)
    assert said[0] > 4 * measured[1]


def peak(work: Job) -> int:
    """Return the most bytes that are alive while a job's net is called, beside weights."""
    model, peaks = table.load(folder.check(work, 1), torch.float32), []
    latents, (net,) = torch.zeros(model.folder.latents_shape(work)), model.nets
    live = LiveBytes(known=tensors_of(net))

    before = []

    def begin(*_) -> None:
        live.peak = live.now
        before.append(live.now)

    net.register_forward_pre_hook(begin)
    net.register_forward_hook(lambda *_: peaks.append(live.peak - before[-1]))
    with live:
        alone = Group(0, 1, torch.device("cpu"))
        generate(model, work, Blocks(latents, None), alone, report=lambda *_: None, stopping=lambda: False)
    return max(peaks)
