"""What travels for 3D attention: the rule, and that all ranks follow the same."""

import pytest
import torch

from parallel.layers import travel

SIZES = {"width": 5120, "item": 2, "own": 10, "arrivals": 20}
DEVICE = 4e14  # FLOP a second, of a GPU of 2023 in bfloat16


def test_a_fast_link_brings_keys_and_values_and_a_slow_one_hidden_states():
    links = (1e9, 25e9, 400e9)
    assert [travel.faster(link, DEVICE, **SIZES) for link in links] == ["hidden_states", "hidden_states", "keys_values"]
    assert travel.faster(25e9, DEVICE / 20, **SIZES) == "keys_values", "a slow device would rather get them made"


def test_where_branches_take_turns_more_hides_and_less_is_projected_twice():
    link = 60e9
    assert travel.faster(link, DEVICE, **SIZES) == "hidden_states"
    assert travel.faster(link, DEVICE, **SIZES, branches=2) == "keys_values"


@pytest.mark.parametrize("size", [2, 3])
def test_all_ranks_choose_alike_by_the_slowest(ranks, size):
    links = [1e15, 1e3, 1e15][:size]
    met = ranks("choose_travel", size, links=links)
    assert {chosen for chosen, _ in met} == {"hidden_states"}
    assert {alone for _, alone in met} == {"hidden_states", "keys_values"}, "by itself each would have chosen otherwise"
    assert {chosen for chosen, _ in ranks("choose_travel", size, links=[1e15] * size)} == {"keys_values"}


def test_what_is_set_by_hand_stands(ranks):
    for asked, links in (("hidden_states", [1e15] * 2), ("keys_values", [1e3] * 2)):
        assert [chosen for chosen, _ in ranks("choose_travel", 2, links=links, asked=asked)] == [asked] * 2


def test_a_link_is_measured_once_and_when_it_is_asked_for(ranks):
    for first, then in ranks("measure_link", 4, asked="auto"):
        assert first > 1e6 and then == first
    assert ranks("measure_link", 2, asked="hidden_states") == [[None, None]] * 2


def test_a_device_is_measured():
    assert travel.measure_flops(torch.nn.Linear(64, 64), 100, torch.device("cpu")) > 1e6
