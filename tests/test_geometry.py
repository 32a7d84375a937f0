"""Frames and latents are counted apart: what the host plans, reserves and keeps for a VAE that packs several frames into a latent."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parallel.comm.group import Group
from parallel.families import folder
from parallel.families.geometry import Geometry
from parallel.job.errors import JobRefused
from parallel.job.files import ModelFiles
from parallel.job.job import Job, Prompt, Scope, checked
from parallel.layers.view import View
from parallel.maths import clips
from parallel.plan import frames_of, latent_span, plan
from parallel.pool import Pool
from parallel.pool.init import check_init
from parallel.pool.reserve import reserve
from parallel.wire.snapshot import Snapshot, shapes

FOUR = Geometry(scale=2, frames_per_latent=4)  # as Wan's, but for the scale: 4n + 1 frames in n + 1 latents


def job(model, frames=10, **change) -> Job:
    values = {"prompts": (Prompt(frame=0, text="a"),), "height": 32, "width": 16, "scheduler": "dpmpp_2m"}
    return checked(Job, **{**values, "model": str(model), "frames": frames, **change})


@pytest.fixture
def packed(tiny):
    """The tiny model, as if its VAE packed four frames into a latent."""
    return folder.inspect(str(tiny)).model_copy(update={"geometry": FOUR})


def test_latents_of_a_vae_for_pictures_are_frames():
    geometry = Geometry(scale=8)
    assert [geometry.latents(frames) for frames in (1, 2, 96)] == [1, 2, 96]
    assert geometry.frames_of(range(0, 7)) == range(0, 7) and geometry.frames_of(range(5, 7)) == range(5, 7)
    assert [geometry.latent_of(frame) for frame in (0, 1, 95)] == [0, 1, 95]


def test_a_length_that_does_not_fill_its_last_latent_takes_one_more():
    assert [FOUR.latents(frames) for frames in (1, 2, 5, 6, 81)] == [1, 2, 2, 3, 21]
    assert FOUR.frames_of(range(0, 1)) == range(0, 1) and FOUR.frames_of(range(1, 3)) == range(1, 9)
    assert FOUR.latents_shape(16, frames=81, height=64, width=32) == (16, 21, 32, 16)


@given(frames=st.integers(1, 400), per=st.integers(1, 9), data=st.data())
def test_each_frame_is_of_one_clip_on_any_ranks(frames, per, data):
    geometry = Geometry(scale=8, frames_per_latent=per)
    latents = geometry.latents(frames)
    cut = clips.cut(latents, data.draw(st.integers(1, latents)))
    made = [frame for clip in cut for frame in geometry.frames_of(clip)]
    assert made == list(range(len(made))) and frames <= len(made) < frames + per
    assert all(geometry.latent_of(frame) in clip for clip in cut for frame in geometry.frames_of(clip))


def test_clips_are_cut_in_latents_and_end_with_the_video(tiny, packed):
    outline = plan(job(tiny), 2, packed)
    assert outline.clips == (range(0, 2), range(2, 4)) and outline.frames == (range(0, 5), range(5, 10))
    assert outline.shared_bytes == 10 * 32 * 16 * 3 * 4
    with pytest.raises(JobRefused, match="cannot cut 10 frames into 5 clips: use at most 4 ranks"):
        plan(job(tiny), 5, packed)


def test_a_rank_knows_its_clip_in_latents_and_in_frames(tiny, packed):
    work, group = job(tiny), Group(1, 2, torch.device("cpu"))
    view = View(group, latent_span(work, FOUR), frames_of=lambda latents: frames_of(latents, work, FOUR))
    assert (
        (view.clip, view.frames)
        == (range(2, 4), range(5, 10))
        == (plan(work, 2, packed).clips[1], plan(work, 2, packed).frames[1])
    )


def test_a_frame_attends_to_whole_latents(tiny, packed):
    work = job(tiny, frames=21, scope=Scope(local_context=3, global_frames=2))
    span = latent_span(work, FOUR)
    assert (span.frames, span.local_context, span.global_frames) == (6, 1, 1), "three frames reach into the next latent"
    sight = plan(work, 3, packed).sight(6)
    assert (sight.near, sight.spread) == (tuple(range(1, 13)), (0,))
    assert sight.fetched == 9 - 4, "its own clip holds frames 5 to 12"


def test_the_memory_of_a_clip_is_of_its_latents_while_it_is_sampled(tiny, packed):
    plain = folder.inspect(str(tiny))
    few, many = plan(job(tiny, frames=17), 1, packed).memory, plan(job(tiny, frames=5), 1, plain).memory
    assert few.denoise == many.denoise and few.skips == many.skips and few.weights == many.weights


def test_blocks_have_the_latents_and_the_frames_of_the_video(tiny, packed):
    with reserve(job(tiny), packed) as reserved:
        assert reserved.latents.tensor.shape == (4, 4, 16, 8) and reserved.frames.tensor.shape == (10, 32, 16, 3)
        assert reserved.snapshot.planes.shape == (2, 3, 4, 4, 16, 8) and reserved.snapshot.marks.shape == (4, 10)
        assert reserved.work.model == packed and reserved.work.model.geometry == FOUR


def test_a_snapshot_marks_the_steps_of_latents_and_the_decoding_of_frames():
    planes, marks = shapes((2, 4, 3, 3), 0, 10)
    snapshot = Snapshot(torch.zeros(planes), torch.zeros(marks, dtype=torch.int64))
    snapshot.write_clip(1, range(0, 2), [torch.ones(1, 2, 2, 3, 3)])
    assert snapshot.whole() == 0
    snapshot.write_clip(1, range(2, 4), [torch.ones(1, 2, 2, 3, 3)])
    assert snapshot.whole() == 1 and snapshot.copy()[0] == 1
    snapshot.mark_decoded([5, 9])
    assert snapshot.missing(range(5, 10)) == [6, 7, 8] and snapshot.whole() == 1
    snapshot.write_video(2, torch.zeros(1, 2, 4, 3, 3))
    assert snapshot.whole() == 2 and snapshot.missing(range(0, 5)) == [0, 1, 2, 3, 4]


def test_an_init_of_latents_has_as_many_as_the_video_and_one_of_frames_has_frames(tiny, packed):
    work = job(tiny, denoise=0.5)
    check_init(work, packed, torch.zeros(4, 4, 16, 8), is_latents=True, resumes=False)
    check_init(work, packed, torch.zeros(10, 32, 16, 3), is_latents=False, resumes=False)
    with pytest.raises(JobRefused) as refused:
        check_init(work, packed, torch.zeros(4, 10, 16, 8), is_latents=True, resumes=False)
    assert str(refused.value) == "init: wanted latents of shape (4, 4, 16, 8) or (4, 1, 16, 8), got (4, 10, 16, 8)"


def test_a_model_that_was_inspected_is_not_inspected_again(tiny, pools, monkeypatch):
    model, again = folder.inspect(str(tiny)), []
    monkeypatch.setattr(folder, "inspect", lambda *places: again.append(places) or model)
    work = job(tiny, num_inference_steps=1)
    pools(1).run(work, model=model)
    assert again == []
    pools(1).run(work)
    assert again == [(str(tiny), None, ModelFiles())], "who gives no model has it inspected, once"


def test_a_given_model_is_still_checked_against_the_job(tiny):
    with pytest.raises(JobRefused, match="height: wanted a multiple of 2, got 17: use 16"):
        Pool(("cpu",)).run(job(tiny, height=17), model=folder.inspect(str(tiny)))
