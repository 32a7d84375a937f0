"""Slices of layers: what is cut has a row a frame, and none is wider than a kernel's grid."""

from itertools import pairwise

import pytest
import torch

from harness import builders
from parallel.comm.group import Group
from parallel.layers.attention import Biases
from parallel.layers.frames import OverFrames
from parallel.layers.patch import patched
from parallel.layers.view import View
from parallel.maths import attention as parallel_attention
from parallel.maths import slices
from parallel.maths.scope import Span
from parallel.maths.slices import Slices
from parallel.models import unet3d


def test_only_arguments_that_have_a_row_a_frame_are_cut():
    """Also where another tensor is, by chance, as long as the clip."""

    class Layer(torch.nn.Module):
        def forward(self, x, rows, table, scale=None):
            assert len(table) == len(scale) == 4, "not cut"
            return x + rows + table.sum() + scale.sum()

    def call(rows: torch.Tensor, **given) -> torch.Tensor:
        return OverFrames(Layer(), Slices(frames=2), rows=("rows",), reads=0)(ones, rows, ones, scale=ones, **given)

    ones, rows = torch.ones(4), torch.arange(4.0)
    assert call(rows).tolist() == [9, 10, 11, 12]
    with pytest.raises(AssertionError, match="wanted a row a frame, 4, got 2"):
        call(rows[:2])
    with pytest.raises(AssertionError, match=r"Layer.forward takes no \{'temb'\}"):
        OverFrames(Layer(), Slices(), rows=("temb",))


@pytest.mark.parametrize("count, at_once, heads", [(200_000, 10**6, 1), (70_000, 10**6, 8), (5, 3, 1), (65_535, 65_535, 1)])
def test_no_slice_is_wider_than_a_kernels_grid(count, at_once, heads):
    by_hand = Slices(frames=at_once, pixels=at_once)
    for cuts in (by_hand.over_pixels(count, 1, heads=heads), by_hand.over_frames(count, 1, heads=heads)):
        cuts = list(cuts)
        assert max(cut.stop - cut.start for cut in cuts) * heads <= min(at_once * heads, 65_535)
        assert [i for cut in cuts[:1] + cuts[-1:] for i in (cut.start, cut.stop)][::3] == [0, count]
        assert all(before.stop == after.start for before, after in pairwise(cuts))


def test_no_batch_of_a_layer_is_wider_than_a_kernels_grid(monkeypatch):
    """With a grid so narrow that a small UNet reaches it, by all ways: attention over frames and pixels, convolutions over frames."""
    grid, seen = 24, {"attend": 0, "multiply": 0}
    attend, multiply = torch.nn.functional.scaled_dot_product_attention, torch.baddbmm

    def attends(query, *args, **kwargs):
        seen["attend"] = max(seen["attend"], query.shape[:2].numel())
        return attend(query, *args, **kwargs)

    def multiplies(bias, *args):
        seen["multiply"] = max(seen["multiply"], len(bias))
        return multiply(bias, *args)

    net, frames = builders.unet(), 30
    x, text = torch.randn(1, 4, frames, 8, 8), torch.randn(1, 5, 16)
    view = View(Group(0, 1, torch.device("cpu")), Span(frames, frames, 0), Slices(frames=10**6, pixels=10**6))
    with torch.inference_mode():
        expected = net(x, 500, encoder_hidden_states=text).sample
        monkeypatch.setattr(slices, "GRID", grid)
        monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attends)
        monkeypatch.setattr(parallel_attention, "scaled_dot_product_attention", attends)
        monkeypatch.setattr(torch, "baddbmm", multiplies)
        with patched(unet3d.frame_changes(net, view, Biases(view))):
            got = net(x, 500, encoder_hidden_states=text).sample
    assert (got - expected).abs().max() < 1e-4
    assert 0 < seen["attend"] <= grid and 0 < seen["multiply"] <= grid
