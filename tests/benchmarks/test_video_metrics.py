"""Each video metric on synthetic videos whose truth is known."""

import math

import pytest
import torch

from benchmarks.flow_metrics import scene_cuts, warp_error
from benchmarks.video_metrics import drift, flicker, loop_closure, repetition, score, seam_ratio, stagnation
from scripts.shapes import PERIOD, Scene, all_kinds, draw_scene, render

ORBIT = Scene("circle", "red", "gray", "orbiting clockwise")
BORDERS = tuple(range(16, 240, 16))


def video(numbers: torch.Tensor, scene: Scene = ORBIT) -> torch.Tensor:
    return render(scene, numbers).permute(0, 2, 3, 1)


def orbit(length: int) -> torch.Tensor:
    return video(torch.arange(length))


def still(length: int) -> torch.Tensor:
    return orbit(1).repeat(length, 1, 1, 1)


def unrelated_clips() -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    kinds = all_kinds()
    picks = torch.randperm(len(kinds), generator=generator)[: len(BORDERS) + 1].tolist()
    return torch.cat([video(torch.arange(16), draw_scene(kinds[pick], generator)) for pick in picks])


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def level(values: torch.Tensor) -> torch.Tensor:
    """Return a video of flat frames of these values."""
    return values.float().view(-1, 1, 1, 1).expand(-1, 8, 8, 3).clone()


def sliding(pixels: int, length: int) -> torch.Tensor:
    """Return a cloudy texture that moves `pixels` a frame to the right."""
    clouds = torch.nn.functional.interpolate(noise(1, 3, 24, 64), scale_factor=4, mode="bicubic")[0].clamp(0, 1)
    starts = [(length - 1 - number) * pixels for number in range(length)]
    return torch.stack([clouds[:, :64, start : start + 64].permute(1, 2, 0) for start in starts])


def grating(numbers: torch.Tensor) -> torch.Tensor:
    """Return stripes that move slowly for their width: their second difference is far below their first."""
    phase = torch.arange(64) * (2 * math.pi / 32) - numbers[:, None] * 0.1
    return (0.5 + 0.4 * phase.sin())[:, None, :, None].expand(-1, 8, -1, 3).float()


def test_flicker_is_vbenchs_score():
    assert flicker(level(torch.tensor([0.2, 0.4] * 5))) == pytest.approx((255 - 51) / 255)
    assert flicker(still(5)) == 1


def test_a_hard_cut_is_found_at_its_frame_and_motion_is_no_cut():
    other = Scene("square", "cyan", "white", "bouncing vertically")
    clip = video(torch.arange(40), other)
    assert scene_cuts(torch.cat([orbit(37), clip])) == [37]
    assert scene_cuts(torch.cat([orbit(5), clip[:3], orbit(9)])) == [5, 8]
    assert scene_cuts(orbit(60)) == []


def test_red_and_blue_reach_the_scene_detector_in_their_places():
    # It takes hue as a line from red to red, so the same small step is a cut at red and none at blue.
    reds = torch.tensor([[1, 0, 0.0]] * 2 + [[1, 0, 0.1]] * 2).view(4, 1, 1, 3).expand(-1, 16, 16, -1)
    assert scene_cuts(reds) == [2] and scene_cuts(reds.flip(-1)) == []


def test_flow_is_the_motion_in_pixels_and_noise_raises_the_warp_error():
    moving = sliding(2, 12)
    clean = warp_error(moving)
    assert clean.flow == pytest.approx(2, abs=0.15)
    assert clean.error < 0.02
    boiling = warp_error((moving + 0.2 * (noise(*moving.shape) - 0.5)).clamp(0, 1))
    assert boiling.error > 2 * clean.error


def test_a_video_that_stands_still_does_not_win_the_warp_error():
    assert math.isnan(warp_error(still(6)).error) and warp_error(still(6)).flow == 0
    invisible = still(6) + 0.004 * noise(6, 64, 64, 3)
    assert math.isnan(warp_error(invisible).error)
    boiling = (still(6) + 0.1 * noise(6, 64, 64, 3)).clamp(0, 1)
    assert warp_error(boiling).error > 5 * warp_error(orbit(6)).error


def test_a_smooth_video_has_no_seams():
    for order in (1, 2):
        for smooth in (orbit(240), noise(240, 8, 8, 3)):
            seam = seam_ratio(smooth, BORDERS, order)
            assert seam.ratio == pytest.approx(1, abs=0.1) and seam.p > 0.05


def test_unrelated_clips_have_seams():
    for order in (1, 2):
        seam = seam_ratio(unrelated_clips(), BORDERS, order)
        assert seam.ratio > 3 and seam.p < 0.01


def test_borders_are_counted_to_the_frame():
    frames = unrelated_clips()
    for shift in (-2, 2):
        moved = tuple(border + shift for border in BORDERS)
        assert seam_ratio(frames, moved, 1).ratio < 1 and seam_ratio(frames, moved, 2).p > 0.05


def test_a_velocity_that_turns_round_is_a_jolt_and_no_jump():
    turn = torch.arange(240) % 32
    frames = grating(torch.where(turn > 16, 32 - turn, turn))
    assert seam_ratio(frames, BORDERS, 1).ratio == pytest.approx(1, abs=0.01)
    jolt = seam_ratio(frames, BORDERS, 2)
    assert jolt.ratio > 5 and jolt.p < 0.01


def test_a_seam_of_known_height():
    steps = torch.full((39,), 0.01)
    steps[[9, 19, 29]] = 0.04
    frames = level(torch.cat([torch.zeros(1), steps]).cumsum(0))
    assert seam_ratio(frames, (10, 20, 30), 1).ratio == pytest.approx(4, rel=1e-3)
    even = seam_ratio(level(torch.arange(40) * 0.01), (10, 20, 30), 1)
    assert even.ratio == pytest.approx(1) and even.p > 0.4  # all tie but for rounding


def test_a_seam_needs_borders_inside_the_video_and_change():
    assert math.isnan(seam_ratio(orbit(32), (), 1).ratio) and math.isnan(seam_ratio(still(32), (16,), 1).p)
    for order in (1, 2):  # a place next to the border belongs to neither side
        assert seam_ratio(torch.cat([still(16), 1 - still(16)]), (16,), order).ratio == math.inf
    with pytest.raises(ValueError, match=r"wanted borders from 1 to 31, got \(0, 16\)"):
        seam_ratio(orbit(32), (0, 16), 1)
    with pytest.raises(ValueError, match="wanted order 1 or 2, got 3"):
        seam_ratio(orbit(32), (16,), 3)


def test_a_fading_video_drifts_by_what_it_loses():
    frames = orbit(240)
    fade = 1 - torch.arange(240) / 480
    slopes = drift(frames * fade.view(-1, 1, 1, 1), 24)
    # Over whole periods the channel means are constant, so half of each is lost in 240 frames.
    for got, mean in zip((slopes.red, slopes.green, slopes.blue), frames.mean((0, 1, 2)).tolist()):
        assert got == pytest.approx(-mean / 480 * 100, rel=0.02)
    assert slopes.histogram > 0.05 and slopes.sharpness < -0.3


def test_sharpness_and_histogram_drift_at_the_rates_put_in():
    blurring = torch.cat([noise(1, 32, 32, 3) * math.exp(-0.05 * clip) for clip in range(10) for _ in range(16)])
    assert drift(blurring, 16).sharpness == pytest.approx(-2 * 0.05 / 16 * 100, rel=1e-3)
    whitening = torch.zeros(160, 8, 10, 3)
    for clip in range(10):
        whitening[clip * 16 : clip * 16 + 16, :, :clip] = 1
    assert drift(whitening, 16).histogram == pytest.approx(0.1 / 16 * 100, rel=1e-3)
    # Bins are 1/7 apart, and a value between two of them is in each by its nearness.
    brightening = drift(level(torch.arange(160) // 16 * 0.01), 16)
    assert brightening.histogram == pytest.approx(0.07 / 16 * 100, rel=1e-3)
    assert brightening.red == pytest.approx(0.01 / 16 * 100, rel=1e-3)


def test_a_video_that_only_varies_does_not_drift():
    for steady, bound in ((orbit(240), 1e-3), (noise(240, 8, 8, 3), 0.02)):
        slopes = drift(steady, 24)
        assert max(abs(slope) for slope in (slopes.histogram, slopes.red, slopes.green, slopes.blue)) < bound
        assert abs(slopes.sharpness) < 5 * bound
    once = drift(level(0.2 + 0.1 * (torch.arange(160) >= 16)), 16)  # an offset from the first clip that does not grow
    assert once.histogram == pytest.approx(0, abs=1e-6) and once.red > 0
    assert math.isnan(drift(orbit(47), 16).histogram)


def test_a_freezing_video_stagnates():
    time = torch.arange(120).double()
    freezing = stagnation(video(30 * (1 - torch.exp(-time / 30))))
    assert freezing.ratio < 0.3 and freezing.slope < -0.5
    swing = level(0.5 + 0.4 * (-1) ** time * torch.exp(-0.01 * time))
    assert stagnation(swing).slope == pytest.approx(-2, rel=1e-3)


def test_a_video_that_goes_on_does_not_stagnate():
    going = stagnation(orbit(240))
    assert going.ratio == pytest.approx(1, abs=0.05) and abs(going.slope) < 0.05
    assert math.isnan(stagnation(still(20)).ratio) and math.isnan(stagnation(still(20)).slope)


def test_a_periodic_video_repeats_at_its_period():
    whole, half = repetition(orbit(10 * PERIOD), (PERIOD, PERIOD // 2))
    assert whole > 0.999 and half < 0
    assert abs(repetition(noise(240, 8, 8, 3), (16,))[0]) < 0.05
    assert repetition(level(torch.tensor([0.0, 1.0] * 10)), (1,))[0] == pytest.approx(-1)
    assert math.isnan(repetition(still(20), (4,))[0]) and math.isnan(repetition(orbit(20), (20,))[0])
    with pytest.raises(ValueError, match=r"wanted strides of 1 frame or more, got \(0,\)"):
        repetition(orbit(20), (0,))


def test_whole_periods_close_the_loop():
    assert loop_closure(orbit(2 * PERIOD)) == pytest.approx(1, abs=0.1)
    assert loop_closure(orbit(2 * PERIOD + PERIOD // 2)) > 2
    assert math.isnan(loop_closure(still(20)))


def test_the_score_names_every_metric():
    frames = unrelated_clips()
    got = score(frames, BORDERS, strides=(16, 48))
    assert got["scene_cuts"] == scene_cuts(frames)
    assert got["seam_jump"] == seam_ratio(frames, BORDERS, 1).ratio and got["seam_jolt_p"] == seam_ratio(frames, BORDERS, 2).p
    assert (got["repetition_16"], got["repetition_48"]) == repetition(frames, (16, 48))
    assert got["drift_blue"] == drift(frames, 16).blue and got["warp_error"] == warp_error(frames).error
    assert all(math.isfinite(value) for name, value in got.items() if name != "scene_cuts")


def test_a_bad_video_is_refused():
    with pytest.raises(ValueError, match=r"wanted 3 or more float32 frames \(T, H, W, 3\), got torch.uint8 \(4, 8, 8, 3\)"):
        score(torch.zeros(4, 8, 8, 3, dtype=torch.uint8), ())
    for wrong in (255.0, math.nan):
        with pytest.raises(ValueError, match=r"wanted frames in \[0, 1\]"):
            score(torch.full((4, 8, 8, 3), wrong), ())
