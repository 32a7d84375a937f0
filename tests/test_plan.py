"""What the plan says is what then happens."""

import math

import pytest
import torch

from harness.live import LiveBytes
from parallel.comm.group import Group
from parallel.families import folder
from parallel.job.job import Job, Prompt, Scope, Tuning, checked
from parallel.layers import attention, conv, frames
from parallel.layers.activation import Activation
from parallel.maths import clips
from parallel.plan import keys_notice, plan, sent_bytes
from parallel.sampler import fit, load
from parallel.sampler.generate import Blocks, generate


def job(model, frames=12, **change) -> Job:
    values = {"prompts": (Prompt(frame=0, text="a cat"),), "height": 32, "width": 32, "num_inference_steps": 2}
    return checked(Job, **{**values, "model": str(model), "frames": frames, **change})


def test_clips_and_the_scope_of_a_frame(tiny):
    outline = plan(job(tiny, scope=Scope(local_context=2, global_frames=3)), 3)
    assert outline.clips == clips.cut(12, 3)
    sight = outline.sight(4)
    assert (sight.near, sight.spread) == ((2, 3, 4, 5, 6), (0, 11))  # 0, 6 and 11 are global; 6 is near
    assert sight.fetched == 4  # the clip is 4 to 7


def test_in_a_loop_the_ends_are_neighbours(tiny):
    sight = plan(job(tiny, loop=True, scope=Scope(local_context=2, global_frames=0)), 2).sight(0)
    assert set(sight.near) == {10, 11, 0, 1, 2}


def test_what_a_frame_hears(tiny):
    told = (Prompt(frame=0, text="a cat"), Prompt(frame=6, text="a dog"))
    outline = plan(job(tiny, prompts=told, fade=1), 2)
    assert [outline.prompts_at(frame) for frame in (5, 6, 7)] == [(0, 0, 1.0), (0, 1, 0.5), (0, 1, 1.0)]


def test_the_messages_are_those_that_are_sent(tiny, pools):
    work = job(tiny, height=16, width=16, decode=False)
    said = plan(work, 2).messages_a_call
    sent = [pools(2).run(checked(Job, **{**dict(work), "num_inference_steps": steps})).ranks[0].messages for steps in (1, 2)]
    assert said > 0 and sent[1] - sent[0] == 2 * said, "two UNet calls a step, one for each branch of the guidance"
    assert plan(work, 1).messages_a_call == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_bytes_are_those_that_are_sent(tiny, pools, dtype):
    work = job(tiny, frames=13, height=16, width=16, decode=False, dtype=dtype, scope=Scope(local_context=2, global_frames=3))
    said = sent_bytes(folder.inspect(str(tiny)), work, 3)
    one, two = (pools(3).run(checked(Job, **{**dict(work), "num_inference_steps": steps})).ranks for steps in (1, 2))
    sent = [after.sent_bytes - before.sent_bytes for before, after in zip(one, two)]
    assert min(said) > 0 and sent == [2 * each for each in said], "two UNet calls a step, one for each branch of the guidance"
    assert sent_bytes(folder.inspect(str(tiny)), work, 1) == [0]


@pytest.mark.parametrize("frames, size", [(16, 32), (32, 32), (8, 64)])
def test_the_memory_is_what_tensors_take(tiny, frames, size):
    work = job(tiny, frames=frames, height=size, width=size, guidance_scale=4.0, num_inference_steps=1)
    said = plan(work, 1).memory
    assert measured(work, decode=False) == pytest.approx(said.denoise, rel=0.25)
    assert measured(work, decode=True) == pytest.approx(said.decode, rel=0.5)


def measured(work: Job, *, decode: bool) -> int:
    """Return the peak of live bytes of sampling, or of decoding alone."""
    work = work if not decode else checked(Job, **{**dict(work), "num_inference_steps": 0})
    model = load.load(folder.check(work, 1), torch.float32)
    latents = torch.zeros(4, work.frames, work.height // 2, work.width // 2)
    pixels = torch.zeros(work.frames, work.height, work.width, 3) if decode else None
    with LiveBytes() as live:
        alone = Group(0, 1, torch.device("cpu"))
        generate(model, work, Blocks(latents, pixels), alone, report=lambda *_: None, stopping=lambda: False)
    return live.peak


def test_weights_are_counted_from_the_files(tiny):
    model = load.load(folder.inspect(str(tiny)), torch.float32)
    sizes = [sum(p.numel() for p in part.parameters()) * 4 for part in (model.unet, model.vae, model.text_encoder)]
    assert plan(job(tiny), 1).memory.weights == sum(sizes)
    waiting = plan(job(tiny, offload="parts"), 1).memory
    assert (waiting.weights, waiting.offloaded) == (max(sizes), sum(sizes)) and plan(job(tiny), 1).memory.offloaded == 0
    assert plan(job(tiny, dtype="float16"), 1).memory.weights == sum(sizes) // 2


def test_a_scope_of_many_more_or_fewer_frames_than_trained_is_noticed(tiny):
    def said(frames: int, **scope) -> str | None:
        return keys_notice(job(tiny, frames=frames, scope=Scope(**scope)))

    assert said(200, local_context=8, global_frames=8) is None, "24 or 25 keys"
    assert said(12, local_context=0, global_frames=0) is None, "a video of a trained length is as the model knows it"
    advice = "change local_context or global_frames if things move too slowly, or say as model_frames what it was trained on"
    wants = f"frames; a model that was trained on 16 wants 12 to 40: {advice}"
    assert said(200, local_context=32, global_frames=12) == f"a frame attends to 73 {wants}"
    assert said(200, local_context=2, global_frames=0) == f"a frame attends to 5 {wants}"
    assert "wants 11 to 35:" in said(200, local_context=4, global_frames=1, model_frames=14), "10 are too few"
    assert said(200, local_context=32, global_frames=12, model_frames=64) is None


def test_what_scales_logits_leaves_the_notice_as_it_is_and_the_other_way_round(tiny, pools):
    wide = Scope(local_context=6, global_frames=4)
    work = job(tiny, frames=12, num_inference_steps=1, decode=False, scope=wide)
    far = checked(Job, **{**dict(work), "frames": 200})
    notices, videos = [], []
    for change in ({}, {"trained_frames": 64}, {"model_frames": 64}):
        scope = wide.model_copy(update=change)
        notices.append(keys_notice(far.model_copy(update={"scope": scope})))
        videos.append(pools(1).run(work.model_copy(update={"scope": scope})).latents)
    assert notices[0] is None and notices[1] is None and "was trained on 64" in notices[2]
    assert torch.equal(videos[0], videos[2]) and not torch.equal(videos[0], videos[1]), (videos[0] - videos[1]).abs().max()


@pytest.mark.parametrize("branches", ["together", "apart"])
def test_the_host_memory_of_parked_skips_is_what_waits_in_powers_of_two(tiny, monkeypatch, branches):
    """Of a UNet call: torch's allocator of pinned memory rounds each tensor up. Branches in one call wait in one tensor each."""
    waited = []

    class Watched(Activation):
        def done(self):
            before = self.tensor
            super().done()
            if self.tensor is not None and self.tensor is not before:
                waited.append(self.tensor.nbytes)

    for module in (frames, conv, attention):
        monkeypatch.setattr(module, "Activation", Watched)
    tuning = Tuning(park_skips="always", branches=branches)
    work = job(tiny, guidance_scale=4.0, num_inference_steps=1, decode=False, tuning=tuning)
    measured(work, decode=False)
    calls = 2 if branches == "apart" else 1
    assert sum(2 ** math.ceil(math.log2(size)) for size in waited) == calls * plan(work, 1).memory.skips > 0


def test_skips_are_parked_where_the_host_has_room_for_those_of_all_ranks(tiny, monkeypatch):
    work, device = job(tiny, decode=False), torch.device("cpu")
    model = load.load(folder.check(work, 1), torch.float32)
    need, said = plan(settled(work), 1).memory.skips, []

    def parks(room: int, ranks: int = 1, **tuning) -> bool:
        monkeypatch.setattr(fit, "free_host_bytes", lambda: room)
        return fit.fit(model, settled(work, **tuning), 12, Group(0, ranks, device), notify=said.append).offload_skips

    monkeypatch.setattr(fit, "free_bytes", lambda _: 1)  # of a GPU that is full
    assert parks(2 * need) and parks(4 * need, ranks=3) and not said
    assert not parks(2 * need, ranks=3)
    assert said.pop().startswith("park_skips: wanted 0.0 GiB of host memory for skip tensors that wait there, 0.0 GiB are free")
    assert parks(need, park_skips="always"), "what was set by hand stands"
    assert said.pop().endswith("so that they are parked all the same: free host memory, or ask for fewer or smaller frames")
    assert not parks(2 * need, park_skips="never") and not said


def settled(work: Job, **tuning) -> Job:
    return work.model_copy(update={"tuning": Tuning(branches="apart", **tuning)})
