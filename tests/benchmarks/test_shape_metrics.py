"""What is said of a tracked shape, on rendered videos whose truth is known."""

import json

import numpy as np
import pytest
import torch

from benchmarks import any_video, coherence, quality_page, shape_metrics, study
from parallel.cli import movies
from scripts.shapes import PERIOD, Scene, render

ORBIT = Scene("circle", "red", "gray", "orbiting clockwise")
BOUNCE = Scene("square", "blue", "white", "bouncing horizontally")
FRAMES, CLIP = 96, 16
BORDERS = tuple(range(CLIP, FRAMES, CLIP))


def film(scene: Scene, frames: torch.Tensor) -> torch.Tensor:
    return render(scene, frames).permute(0, 2, 3, 1)


def cut_film(scene: Scene) -> torch.Tensor:
    """A row of clips, each of which begins at another phase."""
    phases = torch.tensor([0, 9, 2, 14, 5, 20])
    return film(scene, torch.arange(FRAMES) + phases.repeat_interleave(CLIP))


@pytest.mark.parametrize("scene", [ORBIT, BOUNCE])
def test_one_smooth_video_has_no_seam_and_moves_as_captioned(scene):
    reading = shape_metrics.read(film(scene, torch.arange(FRAMES)))
    for border, inside in shape_metrics.seams(reading, BORDERS).values():
        assert shape_metrics.border_p(border, inside) > 0.05
    border, inside = shape_metrics.seams(reading, BORDERS)["position"]
    assert border.mean() / inside.mean() == pytest.approx(1, abs=0.1) and len(border) == len(BORDERS)
    found = shape_metrics.motion(reading, scene)
    assert (found["seen"], found["as captioned"], found["teleports"]) == (1, 1, 0)
    assert found["period"] > 0.98 and found["unsteady"] < 0.4
    assert all(set(part.values()) == {1.0} for part in shape_metrics.identity(reading).values())


def test_clips_that_were_joined_have_seams_at_their_borders_and_nowhere_else():
    reading = shape_metrics.read(cut_film(ORBIT))
    for border, inside in shape_metrics.seams(reading, BORDERS).values():
        assert border.mean() > 3 * inside.mean() and shape_metrics.border_p(border, inside) < 0.01
    elsewhere = tuple(start + CLIP // 2 for start in BORDERS)
    border, inside = shape_metrics.seams(reading, elsewhere)["position"]
    assert shape_metrics.border_p(border, inside) > 0.05
    assert shape_metrics.motion(reading, ORBIT)["teleports"] > 20


def test_a_shape_that_changes_its_colour_is_another_one_from_then_on():
    green = Scene("circle", "green", "gray", "orbiting clockwise")
    frames = torch.arange(FRAMES)
    video = torch.cat([film(ORBIT, frames[:48]), film(green, frames[48:])])
    kept = {part: list(curve.values()) for part, curve in shape_metrics.identity(shape_metrics.read(video)).items()}
    assert kept == {"shape": [1, 1, 1, 1], "colour": [1, 1, 0, 0], "background": [1, 1, 1, 1]}
    assert shape_metrics.arrival(video, 40, green) == 48 - 40, "from the first four frames on that all show it"
    assert shape_metrics.arrival(video, 48, green) == 0
    assert shape_metrics.arrival(video, 60, green) == -12, "seen too early"
    assert np.isnan(shape_metrics.arrival(video, 0, Scene("circle", "cyan", "gray", "orbiting clockwise")))


def test_a_shape_that_stands_still_or_is_not_there_does_not_move_as_captioned():
    still = film(ORBIT, torch.zeros(FRAMES, dtype=torch.long))
    found = shape_metrics.motion(shape_metrics.read(still), ORBIT)
    assert found["as captioned"] == 0 and found["speed"] < 0.01
    empty = torch.full((FRAMES, 64, 64, 3), 0.5)
    found = shape_metrics.motion(shape_metrics.read(empty), ORBIT)
    assert (found["seen"], found["as captioned"], found["speed"]) == (0, 0, 0)


def test_what_is_half_a_shape_or_of_no_colour_of_ours_is_like_nothing():
    ring = Scene("ring", "green", "gray", "orbiting clockwise")
    frames = torch.arange(48)
    half = film(ring, frames)
    half[24:, :, 32:] = half[24:, :1, :1]  # what is drawn on the right side is gone
    assert shape_metrics.identity(shape_metrics.read(half))["shape"] == {0: 1.0, 24: 0.0}
    black = film(ring, frames)
    black[24:][(black[24:] - black[24:, :1, :1]).norm(dim=-1) > 0.2] = 0
    assert shape_metrics.identity(shape_metrics.read(black))["colour"] == {0: 1.0, 24: 0.0}
    both = torch.cat([black[24:], black[24:]])
    assert shape_metrics.identity(shape_metrics.read(both))["colour"] == {0: 0.0, 24: 0.0}, "not even like itself"


def test_a_path_of_another_period_does_not_come_back():
    centres = shape_metrics.read(film(ORBIT, torch.arange(FRAMES))).centres
    assert shape_metrics.period_kept(centres) > 0.98
    slow = shape_metrics.read(film(ORBIT, torch.arange(FRAMES) // 2)).centres
    assert shape_metrics.period_kept(slow) < -0.5, "half a turn in one period"
    assert np.isnan(shape_metrics.period_kept(centres[:PERIOD]))


def test_values_that_span_a_border_belong_to_it():
    values = np.array([1.0, 2.0, np.nan, 4.0, 5.0])  # of frames 2 to 6, each of three frames
    border, inside = shape_metrics.at_borders(values, (4,), reach=2)
    assert border.tolist() == [4.0] and inside.tolist() == [1.0, 2.0, 5.0], "frames 4 and 5, and one is not known"


def test_a_file_of_any_video_is_scored(tmp_path, capsys):
    file = tmp_path / "v.mp4"
    movies.write(cut_film(ORBIT), file, 8)
    assert any_video.main(file, len(BORDERS) + 1) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["borders"] == list(BORDERS) and said["frames"] == FRAMES
    assert said["seam_jump"] > 2 and said["seam_jump_p"] < 0.01
    movies.write(film(ORBIT, torch.arange(FRAMES)), file, 8)
    any_video.main(file, len(BORDERS) + 1)
    said = json.loads(capsys.readouterr().out)
    assert said["seam_jump"] < 1.2 and said["seam_jump_p"] > 0.05


@pytest.mark.parametrize(
    "clips, said",
    [
        (0, "error: wanted 1 to 10 clips for 32 frames, got 0: say of how many it was joined"),
        (11, "error: wanted 1 to 10 clips for 32 frames, got 11: say of how many it was joined"),
    ],
)
def test_clips_that_can_not_be_are_refused(tmp_path, capsys, clips, said):
    movies.write(film(ORBIT, torch.arange(32)), tmp_path / "v.mp4", 8)
    assert any_video.main(tmp_path / "v.mp4", clips) == 2
    assert capsys.readouterr().err.splitlines() == [said]


def test_what_is_no_video_is_refused(tmp_path, capsys, monkeypatch):
    file = tmp_path / "v.mp4"
    assert any_video.main(file, 2) == 2
    file.write_text("not a film")
    assert any_video.main(file, 2) == 2
    assert all(line.startswith(f"error: wanted a video file, got {file} (") for line in capsys.readouterr().err.splitlines())
    movies.write(film(ORBIT, torch.arange(32)), file, 8)
    monkeypatch.setattr(any_video, "MOST_FRAMES", 20)
    assert any_video.main(file, 2) == 2
    assert capsys.readouterr().err == f"error: wanted at most 20 frames, got more in {file}: cut it into parts\n"


def row(seed: int, border: float, kept: float, *, way: str = "w", silent: bool = False) -> dict:
    part = [[border] * 3, [1.0] * 10]
    seams = {kind: part for kind in (*study.SEAMS, study.ELSEWHERE)}
    motion = dict.fromkeys(coherence.MOTION, 1.0)
    return {
        "name": f"{way}{', no caption' * silent}, {240 if silent else 64} frames",
        "way": way,
        "frames": 240 if silent else 64,
        "seed": seed,
        "switch": False,
        "silent": silent,
        "seams": seams,
        "motion": motion,
        "identity": {part: {0: 1.0, 24: kept} for part in shape_metrics.ROUND},
        "jitter": 0.0,
        "general": dict.fromkeys(coherence.GENERAL, 1.0),
    }


def test_figures_come_with_the_interval_of_their_videos():
    rows = [row(seed, border, float(seed < 3)) for seed, border in enumerate((1.0, 2.0, 3.0, 4.0))]
    table = coherence.sum_up(rows)["w, 64 frames"]
    mean, low, high = table["seam, position"]
    assert mean == 2.5 and 1.0 < low < 2.0 and 3.0 < high < 4.0
    assert table["kept to the end"] == pytest.approx((0.75, 0.194, 0.994), abs=1e-3) and table["videos"] == 4
    assert table["p, position"] < 0.01
    same = coherence.sum_up([row(seed, 1.0, 1.0) for seed in range(4)])["w, 64 frames"]
    assert same["seam, position"] == (1.0, 1.0, 1.0) and same["p, position"] > 0.05


def test_the_scope_that_keeps_identity_is_told_from_one_that_does_not():
    rows = [row(seed, 1.0, 1.0, way="default", silent=True) for seed in range(8)]
    worse = [row(seed, 1.0, seed / 10, way="global scope off", silent=True) for seed in range(8)]
    found = coherence.scope_keeps_identity(rows + worse)
    assert found.holds and found.details == {"pairs of videos": 8, "on": 1.0, "off": pytest.approx(0.35)}
    mixed = [row(seed, 1.0, 0.5 + (seed % 2 or -1) / (seed + 3), way="default", silent=True) for seed in range(8)]
    level = [row(seed, 1.0, 0.5, way="global scope off", silent=True) for seed in range(8)]
    assert not coherence.scope_keeps_identity(mixed + level).holds
    assert coherence.sum_up(rows)["default, no caption, 240 frames"]["identity"][0] == 1.0


def test_pace_is_beside_the_defaults_video_of_the_same_seed():
    rows = [row(seed, 1.0, 1.0, way=way) for way in ("default", "slow") for seed in range(3)]
    for seed, each in enumerate(rows[3:]):
        rows[seed]["motion"]["speed"], each["motion"]["speed"] = 1.0 + seed, 0.5 + seed / 2
    table = coherence.sum_up(rows)
    assert table["slow, 64 frames"]["pace"] == (0.5, 0.5, 0.5) and table["default, 64 frames"]["pace"][0] == 1
    assert np.isnan(coherence.sum_up(rows[3:])["slow, 64 frames"]["pace"][0]), "without the default there is none"


def test_the_page_is_written_from_the_table_and_says_what_does_not_hold():
    rows = [row(seed, 1.0, 1.0, way=way) for way in ("default", "independent clips") for seed in range(3)]
    claims = {"quality: x": {"value": 2.0, "target": "<= 1", "holds": False}}
    content = {
        "claims": claims,
        "data": {"table": coherence.sum_up(rows), "steps": 8},
        "date": "today",
        "machine": "m",
        "seconds": 60,
    }
    content = json.loads(json.dumps(content))
    page = quality_page.write(content, "{minutes} {at[default, 64 frames: seam, position]}\n{claims}\n{motion_short}\n{keys}")
    assert page.startswith("1 1 (1 to 1)\n") and "| x | 2 | <= 1 | **no** |" in page
    assert "| independent clips | 64 | 3 | 1 (1 to 1) |" in page
    assert "| default | 31 |" in page, "a frame that is near and spread counts once"
