"""The tracker against rendered clips, whose truth is known."""

import torch

from benchmarks.tracker import track
from scripts.shapes import BACKGROUNDS, PERIOD, Scene, all_kinds, draw_scene, path, render


def scenes(count: int) -> list[Scene]:
    generator = torch.Generator().manual_seed(3)
    kinds = all_kinds()
    return [draw_scene(kinds[place], generator) for place in torch.randperm(len(kinds), generator=generator)[:count].tolist()]


def test_every_part_of_a_rendered_clip_is_read_back():
    frames = torch.arange(16)
    for scene in scenes(96):
        shown = track(render(scene, frames).permute(0, 2, 3, 1))
        assert [getattr(shown, part) for part in ("shape", "colour", "background", "motion")] == [
            getattr(scene, part) for part in ("shape", "colour", "background", "motion")
        ], scene
        assert shown.seen.all()
        assert (shown.centres - path(scene, frames)).norm(dim=1).max() < 0.3


def test_noise_on_the_picture_does_not_move_the_centre():
    frames = torch.arange(16)
    for scene in scenes(8):
        clip = render(scene, frames).permute(0, 2, 3, 1)
        noisy = (clip + 0.02 * torch.randn(clip.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
        assert (track(noisy).centres - path(scene, frames)).norm(dim=1).max() < 0.6


def test_an_empty_clip_shows_nothing():
    paper = torch.tensor(BACKGROUNDS["gray"]) / 255
    shown = track(paper.expand(16, 64, 64, 3).clone())
    assert not shown.seen.any() and (shown.shape, shown.motion) == ("none", "none")


def test_a_scene_is_a_loop_and_stays_in_the_picture():
    for scene in scenes(64):
        assert torch.allclose(path(scene, torch.arange(5)), path(scene, torch.arange(5) + PERIOD), atol=1e-4)
        centres = path(scene, torch.arange(PERIOD))
        assert centres.min() - scene.radius > -1 and centres.max() + scene.radius < 65
