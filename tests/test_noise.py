import torch
from hypothesis import given
from hypothesis import strategies as st

from parallel.maths import clips, noise


@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 2**64 - 1))
def test_noise_is_the_same_for_any_cut(frames, ranks, seed):
    whole = noise.draw_frames(seed, range(frames), (2, 3, 4))
    parts = [noise.draw_frames(seed, clip, (2, 3, 4)) for clip in clips.cut(frames, min(ranks, frames))]
    assert torch.equal(torch.cat(parts, dim=2), whole)
    assert whole.shape == (1, 2, frames, 3, 4)


def test_noise_is_standard_normal_and_independent_over_frames():
    x = noise.draw_frames(3, range(2000), (4, 8, 8))[0].flatten(2).transpose(0, 1).flatten(1)
    assert abs(x.mean()) < 0.01 and abs(x.std() - 1) < 0.01
    correlation = torch.corrcoef(x[:300]).fill_diagonal_(0)
    assert correlation.abs().max() < 6 / 256**0.5


def test_no_two_frames_of_a_draw_share_a_state():
    seeds = [generator.initial_seed() for generator in noise.generators(11, range(200_000), 5)]
    assert len(set(seeds)) == len(seeds)
    assert max(seeds) < 2**32  # torch's CPU generator would drop higher bits


def test_seeds_and_draws_differ():
    first = noise.generators(1, [0], 0)[0].initial_seed()
    assert first != noise.generators(2, [0], 0)[0].initial_seed()
    assert first != noise.generators(1, [0], 1)[0].initial_seed()
