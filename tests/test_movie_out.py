"""Frames that go into a movie as they come: the same video on any ranks, in bounded memory, whole or not at all."""

import os
from contextlib import suppress

import av
import pytest
import torch

from harness.faulty_worker import faulty
from harness.jobs import job
from parallel.job.errors import Stopped
from parallel.pool import Pool, Video, movie
from parallel.sampler.decode import wait_for_room
from parallel.wire.snapshot import Snapshot, shapes

FRAMES, SIZE = 150, 32
LATENTS = torch.rand(4, FRAMES, SIZE // 2, SIZE // 2, generator=torch.Generator().manual_seed(0)) * 4 - 2
DECODE = {"frames": FRAMES, "height": SIZE, "width": SIZE, "num_inference_steps": 0}


def make(pool, model, file, **more) -> Video:
    """Decode a long video into a file; return what the pool gives."""
    with movie.writing(file, frames=FRAMES, height=SIZE, width=SIZE, fps=8.0) as film:
        return pool.run(job(model, **DECODE), init=LATENTS, init_is_latents=True, movie=film, **more)


def read(file) -> torch.Tensor:
    """Return the frames of a file, (T, H, W, 3) from 0 to 1, each of which stands an eighth of a second."""
    with av.open(str(file)) as container:
        frames = list(container.decode(video=0))
    assert [frame.pts * frame.time_base * 8 for frame in frames] == list(range(len(frames)))
    return torch.stack([torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in frames]).float() / 255


def worst(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return how far apart the two frames are, on average, that differ most: an encoder makes more of a last bit (0.012 was seen)."""
    return float((one - other).abs().mean((1, 2, 3)).max())


def bytes_of_frames() -> int:
    """Return how much memory this process's largest block has, as the kernel counts it."""
    sizes = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{number}").startswith("/memfd:video-infinity"):
                sizes.append(os.stat(f"/proc/self/fd/{number}"))
    return max(sizes, key=lambda size: size.st_size).st_blocks * 512


def test_three_ranks_and_one_make_the_same_movie_in_memory_for_a_few_frames(tiny, tmp_path, pools):
    """Clips of three ranks end amid a run. What is measured is one rank's, whose runs all go on at once."""
    held: list[int] = []
    one = make(pools(1), tiny, tmp_path / "one.mp4", on_step=lambda *_: held.append(bytes_of_frames()))
    make(pools(3), tiny, tmp_path / "three.mp4")
    image = pools(1).run(job(tiny, **DECODE), init=LATENTS, init_is_latents=True).frames
    films = [read(tmp_path / name) for name in ("one.mp4", "three.mp4")]
    assert one.frames is None and sorted(file.name for file in tmp_path.iterdir()) == ["one.mp4", "three.mp4"]
    for film in films:
        assert film.shape == image.shape
        # Colour has half the resolution, so that noise loses it: what is compared is how bright.
        assert (film - image).mean(dim=-1).abs().mean() < 0.03 < (film[1:] - image[:-1]).mean(dim=-1).abs().mean()
    assert worst(*films) < 0.03 < worst(films[0][1:], films[1][:-1]), "the file does not show where clips meet"
    frame = SIZE * SIZE * 3 * 4
    assert bytes_of_frames() >= len(image) * frame, "an image's frames, which all lie in memory, are counted"
    assert max(held) <= (movie.RUN + 2) * frame, "frames that are encoded have left the block"


def test_a_rank_that_dies_while_it_decodes_costs_the_movie_nothing(tiny, tmp_path, pools):
    with Pool(("cpu", "cpu"), threads=1) as pool, faulty(1, "decode", "SIGKILL") as fault:
        made = make(pool, tiny, tmp_path / "fault.mp4")
        assert made.restarts == 1 and not fault.exists()
    make(pools(1), tiny, tmp_path / "v.mp4")
    assert worst(read(tmp_path / "fault.mp4"), read(tmp_path / "v.mp4")) < 0.03


def test_a_movie_that_is_stopped_leaves_nothing(tiny, tmp_path, pools):
    steps = []
    seen = lambda: any(step.phase == "decode" and step.step > 40 for step in steps)  # noqa: E731
    with pytest.raises(Stopped):
        make(pools(1), tiny, tmp_path / "v.mp4", on_step=lambda step, _: steps.append(step), should_stop=seen)
    assert list(tmp_path.iterdir()) == []


def test_a_rank_waits_until_the_host_has_taken_frames():
    planes, marks = shapes((1, 8, 1, 1), 0)
    snapshot, looks = Snapshot(torch.zeros(planes), torch.zeros(marks, dtype=torch.int64)), []

    def stopping() -> bool:
        looks.append(0)
        snapshot.mark_taken([len(looks) - 1])
        return len(looks) > 6

    assert wait_for_room(snapshot, [0, 1, 2, 3, 4], 3, stopping) == [3, 4] and len(looks) == 3
    with pytest.raises(Stopped):
        wait_for_room(snapshot, [7], 1, stopping)


def test_a_movie_that_lacks_a_frame_is_none(tmp_path):
    with (
        pytest.raises(AssertionError, match="1 of 2 frames came"),
        movie.writing(tmp_path / "v.mp4", frames=2, height=SIZE, width=SIZE, fps=8.0) as film,
    ):
        film.write(0, torch.zeros(SIZE, SIZE, 3))
    assert list(tmp_path.iterdir()) == []
