"""A pool of real rank processes: warm, stopped, killed, failed."""

import json
import os
import shutil
import signal
import socket
import threading
import time

import pytest
import torch

from harness import builders
from harness.jobs import job
from harness.places import BUNDLED
from harness.processes import ends
from parallel.job.errors import JobRefused, RankFailed, Stopped
from parallel.pool import Pool, door, ranks
from parallel.pool.devices import resolve
from parallel.pool.launchers import Plain
from parallel.wire import channel as wire


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_jobs_run_one_after_another_on_the_same_warm_ranks(tiny, pools):
    pool, steps = pools(3), []
    first = pool.run(job(tiny), on_step=lambda step, _: steps.append(step))
    ranks = pool.process_ids
    second = pool.run(job(tiny, seed=1))
    third = pool.run(job(tiny))
    assert pool.process_ids == ranks and len(ranks) == 3
    assert torch.equal(first.latents, third.latents) and torch.equal(first.frames, third.frames)
    assert not torch.allclose(first.latents, second.latents)
    assert first.latents.shape == (1, 4, 9, 8, 8) and first.frames.shape == (9, 16, 16, 3)
    assert first.frames.min() >= 0 and first.frames.max() <= 1 and first.frames.std() > 0.01
    for rank in range(3):
        seen = [step.step for step in steps if step.rank == rank and step.phase == "denoise"]
        assert seen == [0, 1, 2, 3, 4]
    assert [report.rank for report in first.ranks] == [0, 1, 2]
    assert all(report.sent_bytes > 0 and report.peak_memory_bytes > 2**20 for report in first.ranks)
    assert set(first.ranks[0].seconds) == {"load", "encode", "denoise", "decode"}


def test_a_model_that_is_told_the_frame_rate_makes_one_video_on_any_ranks(tiny, tmp_path, pools):
    """A conversion of VideoCrafter2: the UNet alone, with `fps_cond`; the rest comes from a second folder."""
    crafter = builders.text_to_video_folder(tmp_path / "crafter", unet_only=True, fps_cond=True)
    one, three, slow = (
        pools(size).run(job(crafter, parts=str(tiny), fps=fps)).latents for size, fps in ((1, 24), (3, 24), (3, 8))
    )
    assert (one - three).abs().max() < 1e-4
    assert (slow - three).abs().max() > 1e-3


def test_a_job_without_decoding_has_no_frames(tiny, pools):
    assert pools(3).run(job(tiny, decode=False)).frames is None


def test_a_stop_ends_the_job_within_a_step_and_leaves_the_ranks_warm(tiny, pools):
    pool, steps = pools(3), []
    pool.start()
    ranks = pool.process_ids
    seen = lambda: any(step.phase == "denoise" and step.step >= 2 for step in steps)  # noqa: E731
    with pytest.raises(Stopped):
        pool.run(job(tiny, num_inference_steps=400), on_step=lambda step, _: steps.append(step), should_stop=seen)
    assert max(step.step for step in steps if step.phase == "denoise") < 100
    assert pool.process_ids == ranks
    assert torch.isfinite(pool.run(job(tiny)).latents).all()
    assert pool.process_ids == ranks


def test_a_stop_before_the_first_step_is_heard(tiny, pools):
    pool = pools(3)
    pool.start()
    with pytest.raises(Stopped):
        pool.run(job(tiny, num_inference_steps=400), should_stop=lambda: True)
    assert torch.isfinite(pool.run(job(tiny)).latents).all()


def test_a_stop_while_encoding_ends_the_job_and_leaves_the_ranks_warm(tiny, pools):
    pool, steps = pools(3), []
    long = job(tiny, frames=3000, denoise=0.5)
    seen = lambda: any(step.phase == "encode" and step.step >= 2 for step in steps)  # noqa: E731
    ranks = pool.process_ids
    with pytest.raises(Stopped):
        pool.run(long, init=torch.rand(3000, 16, 16, 3), on_step=lambda step, _: steps.append(step), should_stop=seen)
    assert max(step.step for step in steps if step.phase == "encode") < 1000
    assert not [step for step in steps if step.phase == "denoise"]
    assert pool.process_ids == ranks
    assert torch.isfinite(pool.run(job(tiny)).latents).all()


def test_a_stranger_who_comes_first_does_not_keep_the_ranks_out(tiny, monkeypatch):
    class Visited(door.Door):
        def open(self):
            super().open()
            strangers.append(socket.create_connection((wire.HOST, self.port)))  # says nothing, and never leaves
            strangers.append(socket.create_connection((wire.HOST, self.port)))
            strangers[-1].sendall(b"\x00\x00\x00\x05hello")

    strangers: list[socket.socket] = []
    monkeypatch.setattr(ranks, "Door", Visited)
    with Pool(("cpu",), threads=1) as pool:
        assert torch.isfinite(pool.run(job(tiny)).latents).all()
    for stranger in strangers:
        stranger.close()


def test_a_start_that_is_stopped_leaves_no_thread_and_no_process(tiny):
    before = set(threading.enumerate())
    with Pool(("cpu", "cpu"), threads=1) as pool, pytest.raises(Stopped):
        pool.start(should_stop=lambda: True)
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=5)
        assert not thread.is_alive(), thread


def test_a_model_folder_may_be_given_relative_to_the_hosts_own_folder(tiny, pools, monkeypatch):
    monkeypatch.chdir(tiny.parent)
    assert torch.isfinite(pools(1).run(job(tiny.name)).latents).all()


def test_latents_as_wide_as_three_are_latents(tiny, pools):
    narrow = {"width": 24, "num_inference_steps": 1}
    made = pools(2).run(job(BUNDLED, **narrow))
    assert made.latents.shape == (1, 4, 9, 2, 3)
    again = pools(2).run(job(BUNDLED, **narrow | {"num_inference_steps": 0}), init=made.latents[0], init_is_latents=True)
    assert torch.equal(again.latents, made.latents)


def test_a_killed_rank_ends_the_job_by_name_and_the_next_job_starts_afresh(tiny):
    with Pool(("cpu", "cpu"), threads=1, restarts=0) as pool:
        pool.start()
        ranks = pool.process_ids

        def kill(step, latents):
            if step.phase == "denoise" and step.step == 1 and alive(ranks[1]):
                os.kill(ranks[1], signal.SIGKILL)

        with pytest.raises(RankFailed) as failed:
            pool.run(job(tiny, num_inference_steps=200), on_step=kill)
        assert failed.value.rank == 1
        assert str(failed.value).startswith("rank 1 on cpu ended without a word, exit code -9: ")
        assert pool.process_ids == () and not any(alive(pid) for pid in ranks)
        assert torch.isfinite(pool.run(job(tiny)).latents).all()
        ranks = pool.process_ids
    assert not any(alive(pid) for pid in ranks)
    pool.stop()


def test_a_rank_that_died_between_jobs_costs_nothing_but_a_start(tiny):
    with Pool(("cpu", "cpu"), threads=1) as pool:
        pool.start()
        first = pool.process_ids
        os.kill(first[0], signal.SIGKILL)
        assert ends(first[0])
        assert torch.isfinite(pool.run(job(tiny)).latents).all()
        assert not set(pool.process_ids) & set(first) and not any(alive(pid) for pid in first)


def test_a_rank_that_fails_ends_the_job_with_its_own_traceback(tiny, tmp_path):
    """Weights of another model: the door sees a folder in order, the rank finds out."""
    other = shutil.copytree(tiny, tmp_path / "other")
    shutil.copy(next((tiny / "vae").glob("*.safetensors")), next((other / "text_encoder").glob("*.safetensors")))
    with Pool(("cpu", "cpu"), threads=1) as pool:
        pool.start()
        ranks = pool.process_ids
        with pytest.raises(RankFailed, match=r"^rank [01] on cpu refused its job: .*: get the folder again$") as failed:
            pool.run(job(other))
        assert failed.value.traceback.startswith("Traceback")
        assert not any(alive(pid) for pid in ranks)


@pytest.mark.parametrize("late", (0.0, 0.4))
def test_a_package_that_is_missing_on_a_rank_is_named(tiny, tmp_path, monkeypatch, late):
    """So it is when the rank has ended before the host has read what it said first."""
    receive = wire.receive
    monkeypatch.setattr(wire, "receive", lambda connection: (time.sleep(late), receive(connection))[1])
    (tmp_path / "diffusers.py").write_text("raise ImportError('no diffusers here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Pool(("cpu",), launcher=Plain()) as pool, pytest.raises(RankFailed) as failed:
        pool.run(job(tiny))
    assert str(failed.value).startswith("rank 0 on cpu could not import a package (no diffusers here): install")


def test_wrong_input_is_refused_before_any_rank_starts(tiny, tmp_path):
    pool = Pool(("cpu", "cpu"))
    for wrong in (job(tmp_path / "no"), job(tiny, height=17), job(tiny, frames=1), job(tiny, denoise=0.5)):
        with pytest.raises(JobRefused):
            pool.run(wrong)
    message = r"^init: wanted frames of shape \(9, 16, 16, 3\) or \(1, 16, 16, 3\), got \(8, 16, 16, 3\)$"
    with pytest.raises(JobRefused, match=message):
        pool.run(job(tiny, denoise=0.5), init=torch.zeros(8, 16, 16, 3))
    message = r"^init: wanted latents of shape \(4, 9, 8, 8\) or \(4, 1, 8, 8\), got \(9, 16, 16, 3\)$"
    with pytest.raises(JobRefused, match=message):
        pool.run(job(tiny, denoise=0.5), init=torch.zeros(9, 16, 16, 3), init_is_latents=True)
    with pytest.raises(JobRefused, match=r"^denoise: 1 would leave nothing of the init: use less, such as 0.6$"):
        pool.run(job(tiny), init=torch.zeros(9, 16, 16, 3))
    assert pool.process_ids == ()


def test_an_init_reaches_the_rank_that_owns_its_frames(tiny, pools):
    """Hardly any noise: each frame of the result is the init's own frame, on one rank as on three."""
    init = torch.rand(9, 16, 16, 3)
    weak = job(tiny, denoise=0.05, num_inference_steps=20, guidance_scale=1.0)
    three, one = (pools(size).run(weak, init=init).latents for size in (3, 1))
    assert (three - one).abs().max() < 1e-4
    other = pools(3).run(weak, init=init.roll(1, 0)).latents
    assert not torch.allclose(other, three, atol=1e-2)
    still = pools(3).run(weak, init=(init[:1] * 255).to(torch.uint8)).latents
    assert torch.isfinite(still).all()


def test_the_latents_of_one_frame_serve_all_frames_as_its_picture_does(tiny, pools):
    picture = torch.rand(1, 16, 16, 3)
    encoded = pools(1).run(job(tiny, frames=1, num_inference_steps=0, decode=False), init=picture).latents[0]
    weak = job(tiny, denoise=0.5, guidance_scale=1.0)
    from_picture = pools(3).run(weak, init=picture).latents
    from_latents = pools(3).run(weak, init=encoded, init_is_latents=True).latents
    assert encoded.shape == (4, 1, 8, 8) and (from_latents - from_picture).abs().max() < 1e-4


def test_a_job_of_no_steps_encodes_or_decodes_an_init(tiny, pools):
    made = pools(3).run(job(tiny))
    decoded = pools(2).run(job(tiny, num_inference_steps=0), init=made.latents[0], init_is_latents=True)
    assert torch.equal(decoded.latents, made.latents)
    assert torch.allclose(decoded.frames, made.frames, atol=1e-4)
    encoded = pools(3).run(job(tiny, num_inference_steps=0, decode=False), init=made.frames)
    assert encoded.frames is None and encoded.latents.shape == made.latents.shape and encoded.latents.std() > 0.01


def test_the_latents_of_all_ranks_are_seen_as_they_grow(tiny, pools):
    seen = []
    made = pools(3).run(job(tiny), on_step=lambda step, latents: seen.append((step, latents.clone())))
    last = [latents for step, latents in seen if step.phase == "decode"]
    assert torch.equal(last[-1], made.latents[0])
    first = next(latents for step, latents in seen if step.phase == "denoise" and step.step == 2)
    assert first.abs().sum() > 0 and not torch.equal(first, made.latents[0])


def test_a_stochastic_dpm_scheduler_draws_by_frame_number(tiny, tmp_path, pools):
    model = shutil.copytree(tiny, tmp_path / "sde")
    file = model / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "algorithm_type": "sde-dpmsolver++"}))
    drawn = [pools(size).run(job(model, scheduler="dpmpp_2m")).latents for size in (1, 3, 1)]
    assert (drawn[0] - drawn[1]).abs().max() < 1e-4 and torch.equal(drawn[0], drawn[2])
    still = pools(1).run(job(tiny, scheduler="dpmpp_2m")).latents
    assert (still - drawn[0]).abs().max() > 0.1, "or no noise was drawn"


@pytest.mark.parametrize(
    "names, message",
    [
        ("cuda:99", r"^device cuda:99 is not there: this machine has .*; use cpu or auto$"),
        ("gpu", r"^device: wanted cpu or cuda:NUMBER, got 'gpu': separate several by commas, or use auto$"),
        ("", r"^device: wanted cpu or cuda:NUMBER, got '': separate several by commas, or use auto$"),
        ("cpu;cpu", r"^device: wanted cpu or cuda:NUMBER, got 'cpu;cpu': separate several by commas, or use auto$"),
    ],
)
def test_a_device_that_is_not_there_is_refused(names, message):
    with pytest.raises(JobRefused, match=message):
        resolve(names)


def test_devices_are_one_a_rank():
    assert resolve("cpu, cpu,cpu") == ("cpu",) * 3
    assert len(resolve("auto")) >= 1


@pytest.mark.gpu
def test_a_gpu_rank_makes_the_video_that_a_cpu_rank_makes(tiny, pools):
    with Pool(("cuda:0",)) as pool:
        got = pool.run(job(tiny)).latents
    assert (got - pools(1).run(job(tiny)).latents).abs().max() < 1e-2


def test_auto_takes_no_more_ranks_than_there_are_frames():
    assert len(resolve("auto", frames=1)) == 1
    assert resolve("auto", frames=1000) == resolve("auto")
    assert resolve("cpu,cpu", frames=1) == ("cpu", "cpu"), "what was named is not taken away unsaid: the job is refused"
