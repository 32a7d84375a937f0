"""The same tests on each kind of device: CPU ranks everywhere, a GPU (`gpu`) and two over NCCL (`gpus`) where they are.

On CPUs they prove that the tests themselves are in order; what they ask of CPU ranks other tests ask more closely.
"""

import os
import signal

import pytest
import torch

from harness.places import BUNDLED, BUNDLED_WAN
from parallel.job.errors import Stopped
from parallel.job.job import Job, Prompt, Scope, Tuning, checked
from parallel.layers.activation import Activation
from parallel.pool import Pool
from parallel.sampler import fit

GPU, GPUS = ("cuda:0",), ("cuda:0", "cuda:1")
ONE = [pytest.param(("cpu",), id="cpu"), pytest.param(GPU, id="gpu", marks=pytest.mark.gpu)]
TWO = [pytest.param(("cpu", "cpu"), id="cpus"), pytest.param(GPUS, id="gpus", marks=pytest.mark.gpus)]
HALVES = {"float16": 2**-11, "bfloat16": 2**-8}  # the most that rounding once takes off, or adds
DEEP = 10  # roundings that add up in a short video; on a CPU it is 2.3


SIZE, FRAMES, STEPS = (64, 13, 4) if torch.cuda.is_available() else (32, 7, 3)  # other tests ask more of CPUs


def job(**change) -> Job:
    values = {
        "model": str(BUNDLED),
        "prompts": (Prompt(frame=0, text="a red circle orbiting clockwise on a gray background"),),
        "frames": FRAMES,
        "height": SIZE,
        "width": SIZE,
        "num_inference_steps": STEPS,
        "guidance_scale": 3.0,
        "scheduler": "ddim",
        "scope": Scope(local_context=3, global_frames=3),
        "decode": False,
    }
    return checked(Job, **{**values, **change})


def wan_job(**change) -> Job:
    """A job of the bundled Wan: 3D attention, a causal VAE."""
    values = {"model": str(BUNDLED_WAN), "frames": 33, "guidance_scale": 1.0, "scheduler": "euler", "scope": Scope()}
    return job(**{**values, **change})


@pytest.fixture(scope="module")
def on(pools):
    """A function of some devices that returns a warm pool on them."""
    started: dict[tuple[str, ...], Pool] = {}

    def pool(devices: tuple[str, ...]) -> Pool:
        if devices[0] == "cpu":
            return pools(len(devices))
        if devices not in started:
            started[devices] = Pool(devices)
        return started[devices]

    yield pool
    for each in started.values():
        each.stop()


@pytest.mark.parametrize("devices", TWO)
@pytest.mark.parametrize("work", [job(scheduler="euler_ancestral", decode=True), wan_job(decode=True)], ids=["unet3d", "wan"])
def test_one_device_and_two_make_the_same_video(on, devices, work):
    """Law 1, of a UNet with noise drawn at each step. Convolutions in TF32 would break it."""
    one, two = on(devices[:1]).run(work), on(devices).run(work)
    assert one.latents.std() > 0.3 and torch.isfinite(one.latents).all()
    assert (one.latents - two.latents).abs().max() <= 1e-4
    assert (one.frames - two.frames).abs().max() <= 1e-4
    assert two.ranks[0].messages > 0 and two.ranks[0].sent_bytes > 0


@pytest.mark.gpu
@pytest.mark.parametrize("work", [job(decode=True), wan_job(decode=True)], ids=["unet3d", "wan"])
def test_a_gpu_makes_the_video_that_a_cpu_makes(on, work):
    gpu, cpu = (on(devices).run(work) for devices in (GPU, ("cpu",)))
    assert (gpu.latents - cpu.latents).abs().max() < 1e-3
    assert (gpu.frames - cpu.frames).abs().max() < 1e-3


@pytest.mark.parametrize("devices", TWO)
def test_a_stop_ends_all_devices_within_a_step_and_leaves_them_whole(on, devices):
    pool, seen = on(devices), []
    before = pool.run(job()).latents
    ranks = pool.process_ids
    with pytest.raises(Stopped):
        stop = lambda: any(step.phase == "denoise" and step.step >= 2 for step in seen)  # noqa: E731
        pool.run(job(num_inference_steps=900), on_step=lambda step, _: seen.append(step), should_stop=stop)
    assert max(step.step for step in seen if step.phase == "denoise") < 900
    assert torch.equal(pool.run(job()).latents, before) and pool.process_ids == ranks


@pytest.mark.parametrize("devices", TWO)
def test_stale_context_sends_less_and_stays_near(on, devices):
    tunings = (Tuning(), Tuning(stale_after=3, stale_for=2))
    size = {"height": 64, "width": 64}  # that of the model: in smaller pictures everything is near everything
    exact, stale = (on(devices).run(job(**size, num_inference_steps=5, tuning=tuning)) for tuning in tunings)
    assert stale.ranks[0].messages < exact.ranks[0].messages
    assert 1e-5 < (stale.latents - exact.latents).abs().mean() < 0.2 * exact.latents.std()


@pytest.mark.gpus
def test_a_killed_rank_costs_a_step_and_not_the_video(on):
    """The one that is left waits in NCCL, which nothing interrupts: it is ended, and starts afresh."""
    work, told = job(num_inference_steps=8), []
    wanted = on(GPUS[:1]).run(work).latents
    with Pool(GPUS) as pool:
        pool.start()
        victim = pool.process_ids[1]

        def kill(step, _) -> None:
            if step.phase == "denoise" and step.step == 3 and victim in pool.process_ids:
                os.kill(victim, signal.SIGKILL)

        got = pool.run(work, on_step=kill, on_notice=told.append)
    assert (got.latents - wanted).abs().max() <= 1e-4
    assert got.restarts == 1 and any(f"rank 1 on {GPUS[1]}" in text for text in told)


@pytest.mark.parametrize("devices", ONE)
@pytest.mark.parametrize("branches", ["together", "apart"])
def test_parked_skips_leave_the_video_as_it_is(on, devices, branches):
    kept, parked = (on(devices).run(job(tuning=Tuning(branches=branches, park_skips=park))) for park in ("never", "always"))
    assert (kept.latents - parked.latents).abs().max() < 1e-5


@pytest.mark.parametrize("devices", ONE)
def test_a_parked_tensor_waits_in_host_memory_pinned_for_a_gpu(devices):
    """A copy that is still on its way, either way, must not be read; the GPU is kept busy so that copies come late."""
    (device,) = map(torch.device, devices)
    size = 1500 if device.type == "cuda" else 50
    for number in range(5):
        busy = torch.rand(size, size, device=device)
        for _ in range(20):
            busy = busy @ busy / size
        skip = Activation(torch.full((5, 3, size, 8), float(number), device=device), reads=2, offload=True)
        skip.done()
        assert skip.tensor.device.type == "cpu" and skip.tensor.is_pinned() == (device.type == "cuda")
        torch.full((5, 3, size, 8), -1.0, device=device)  # takes the memory that is free
        back = skip.rows(slice(1, 4))
        skip.done()
        assert skip.tensor is None and back.device == device and bool((back == number).all())


@pytest.mark.parametrize("devices", ONE)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("of_family", [job, wan_job], ids=["unet3d", "wan"])
def test_half_precision_is_float32_within_its_rounding(on, devices, dtype, of_family):
    full, half = (on(devices).run(of_family(dtype=kind, num_inference_steps=2)).latents for kind in ("float32", dtype))
    assert 0 < (half - full).abs().mean() < DEEP * HALVES[dtype] * full.std()


@pytest.mark.parametrize("devices", ONE)
@pytest.mark.parametrize("of_family", [job, wan_job], ids=["unet3d", "wan"])
def test_compiled_layers_make_the_same_video_and_are_told_of(on, devices, of_family):
    said, work = [], of_family(num_inference_steps=2)
    plain = on(devices).run(work).latents
    compiled = on(devices).run(work.model_copy(update={"tuning": Tuning(compile=True)}), on_notice=said.append).latents
    assert (compiled - plain).abs().max() < 1e-3
    (told,) = (text for text in said if text.startswith("compile: "))
    assert told.endswith("it is for GPUs") if devices == ("cpu",) else told.endswith("run compiled"), told


@pytest.mark.parametrize("devices", ONE)
def test_a_full_gpu_is_told_from_a_free_one(devices):
    """By what `auto` goes by; a CPU has no such limit. What torch holds in reserve counts as free."""
    (device,) = map(torch.device, devices)
    if device.type == "cpu":
        assert fit.free_bytes(device) is None
        return
    size, before = 2**28, fit.free_bytes(device)
    held = torch.empty(size, dtype=torch.uint8, device=device)
    assert before - fit.free_bytes(device) >= 0.9 * size
    del held
    assert fit.free_bytes(device) >= 0.9 * before
