"""Noise by frame number: any cut gives the same, and each kind has the covariance over frames that it says."""

from collections import Counter
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parallel.maths import clips, noise

KINDS = {
    "independent": noise.draw_frames,
    "shuffled": partial(noise.draw_shuffled, window=12, stride=4),
    "mixed": partial(noise.draw_mixed, share=0.3),
}


def by_frame(noise_BCFHW: torch.Tensor) -> torch.Tensor:
    """Return (F, C x H x W)."""
    return noise_BCFHW[0].transpose(0, 1).flatten(1)


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 2**64 - 1))
def test_noise_is_the_same_for_any_cut(kind, frames, ranks, seed):
    draw = KINDS[kind]
    whole = draw(seed, range(frames), (2, 3, 4))
    parts = [draw(seed, clip, (2, 3, 4)) for clip in clips.cut(frames, min(ranks, frames))]
    assert torch.equal(torch.cat(parts, dim=2), whole)
    assert whole.shape == (1, 2, frames, 3, 4) and whole.dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_standard_normal(kind):
    """Over seeds: within one video, frames that have noise in common are no new draws."""
    x = torch.stack([by_frame(KINDS[kind](seed, [0, 5, 13, 998], (4, 4, 4))) for seed in range(500)])
    assert x.mean((0, 2)).abs().max() < 0.03 and (x.var((0, 2)) - 1).abs().max() < 0.04
    assert abs((x**4).mean() - 3) < 0.15, "normal, and not only of variance 1"


def test_independent_noise_is_what_it_always_was():
    """Videos that people made before must come out the same: the seeds of its generators, written down in version 0.2."""
    seeds = [generator.initial_seed() for generator in noise.generators(5, [0, 1, 999_999], noise.START)]
    assert seeds == [2570425798, 4079717146, 2542842916]
    drawn = [torch.randn((2, 3, 4), generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    assert torch.equal(noise.draw_frames(5, [0, 1, 999_999], (2, 3, 4))[0], torch.stack(drawn, dim=1))


@given(st.integers(0, 2**64 - 1), st.integers(1, 6), st.integers(1, 5))
def test_shuffled_noise_repeats_the_first_frames_as_a_permutation_within_runs(seed, stride, base_runs):
    window = stride * base_runs
    found = noise.sources(seed, range(4 * window), window=window, stride=stride)
    assert found[:window] == list(range(window)), "they have their own"
    for run in range(4 * base_runs):
        base = run % base_runs * stride
        assert sorted(found[run * stride : (run + 1) * stride]) == list(range(base, base + stride))
    assert [noise.sources(seed, [frame], window=window, stride=stride) for frame in (3 * window, window)] == [
        [found[3 * window]],
        [found[window]],
    ], "a frame's place alone says it"


def test_shuffled_frames_are_the_base_frames_and_nothing_in_between():
    x = by_frame(noise.draw_shuffled(3, range(200), (4, 8, 8), window=16, stride=4))
    assert torch.equal(x[:16], by_frame(noise.draw_frames(3, range(16), (4, 8, 8))))
    found = noise.sources(3, range(200), window=16, stride=4)
    assert torch.equal(x, x[found])
    correlation, same = torch.corrcoef(x), torch.tensor(found)[:, None] == torch.tensor(found)
    assert (correlation[same] > 0.999).all() and correlation[~same].abs().max() < 6 / 256**0.5


def test_runs_have_orders_of_their_own_and_all_orders_are_as_likely():
    orders = [tuple(noise.sources(seed, range(6, 9), window=6, stride=3)) for seed in range(3000)]
    counts = Counter(orders)
    assert len(counts) == 6 and max(counts.values()) < 600 and min(counts.values()) > 400
    found = noise.sources(3, range(4000), window=4, stride=4)
    assert len({tuple(found[at : at + 4]) for at in range(4, 4000, 4)}) == 24


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_mixed_noise_correlates_by_its_share(share):
    x = by_frame(noise.draw_mixed(3, range(40), (4, 64, 64), share=share))
    correlation = torch.corrcoef(x)
    others = correlation[~torch.eye(40, dtype=torch.bool)]
    assert abs(others.mean() - share) < 0.03 and (others - share).abs().max() < 6 / x.shape[1] ** 0.5
    own = by_frame(noise.draw_frames(3, range(40), (4, 64, 64)))
    assert share != 0 or torch.equal(x, own)
    assert share != 1 or torch.equal(x, x[:1].expand_as(x))


def test_noise_is_standard_normal_and_independent_over_frames():
    x = by_frame(noise.draw_frames(3, range(2000), (4, 8, 8)))
    assert abs(x.mean()) < 0.01 and abs(x.std() - 1) < 0.01
    correlation = torch.corrcoef(x[:300]).fill_diagonal_(0)
    assert correlation.abs().max() < 6 / 256**0.5


def test_no_two_frames_of_a_draw_share_a_state():
    numbers = [*range(200_000), *range(noise.ORDERS, noise.ORDERS + 1000), noise.COMMON]
    seeds = [generator.initial_seed() for generator in noise.generators(11, numbers, 5)]
    assert len(set(seeds)) == len(seeds)
    assert max(seeds) < 2**32  # torch's CPU generator would drop higher bits


def test_seeds_and_draws_differ():
    first = noise.generators(1, [0], 0)[0].initial_seed()
    assert first != noise.generators(2, [0], 0)[0].initial_seed()
    assert first != noise.generators(1, [0], 1)[0].initial_seed()
