"""What the measurements of Wan's speed compare, and what they reckon with, apart from time."""

import json
from string import Formatter

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import (
    cost_model,
    performance_page,
    wan_compare,
    wan_cost_model,
    wan_decode,
    wan_offload,
    wan_profile,
    wan_scaling,
    wan_standard,
)
from parallel.families.wan_shape import WanShape

NVLINK, ETHERNET = cost_model.LINKS[0], cost_model.LINKS[2]
ONE_BLOCK = WanShape(num_attention_heads=12, ffn_dim=8960, num_layers=1)


def test_windows_of_latents_that_agree_average_to_the_whole():
    video = torch.randn(1, 2, 50, 2, 2)
    made = wan_compare.windows(lambda x, time, text, return_dict: (2 * x,))(video, torch.zeros(1), torch.zeros(1))
    assert torch.allclose(made, 2 * video, atol=1e-6)


@torch.inference_mode()
def test_ways_to_run_wan_are_the_same_net():
    """On a video that every latent sees all of, what differs is the way alone."""
    called = wan_standard.call(wan_standard.LOCAL + 1)
    stock, windows, ours = (way(*called) for way in wan_compare.ways().values())
    assert torch.allclose(ours, stock, atol=1e-4) and torch.allclose(windows, stock, atol=1e-4)


def flop(latents: int, tokens: int) -> float:
    """Return what a call of one block of 1.3B's is counted to take."""
    with torch.device("meta"):
        net = WanTransformer3DModel(num_attention_heads=12, ffn_dim=8960, num_layers=1).eval()
        called = torch.empty(1, 16, latents, 2, 2 * tokens), torch.empty(1), torch.empty(1, 512, 4096)
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        net(*called)
    return counter.get_total_flops()


def test_a_token_and_a_pair_of_latents_cost_what_is_counted():
    tokens = 400
    calls = {latents: flop(latents, tokens) for latents in (2, 4, 6)}
    pairs = (calls[6] - 2 * calls[4] + calls[2]) / 8  # the second difference: of squares
    assert pairs == pytest.approx(wan_cost_model.pair_flop(ONE_BLOCK, tokens))
    token = (calls[4] - calls[2] - 12 * pairs) / (2 * tokens)
    assert token == pytest.approx(wan_cost_model.token_flop(ONE_BLOCK), rel=0.01)  # and what stands outside the blocks


def test_a_gpu_is_found_again_from_two_dense_runs():
    shape, tokens = wan_cost_model.SMALL, wan_cost_model.SMALL_TOKENS
    gpu = wan_cost_model.GPU("a card", 1e14, 2e14, 3e11, 8e10)
    runs = tuple((n, wan_cost_model.call_seconds(gpu, shape, tokens, n, n * n, gathers=False)) for n in (21, 61))
    found = wan_cost_model.of_dense("a card", runs, 1, gathered=3e11, memory=8e10)
    assert (found.token_flops, found.pair_flops) == pytest.approx((1e14, 2e14))


def test_the_model_gives_lvsas_runs_that_it_was_not_made_from():
    rows = wan_scaling.lvsa_rows()
    assert all(abs(row["apart"]) < 0.2 for row in rows.values())
    assert {name for name, row in rows.items() if abs(row["apart"]) < 1e-9} == {"dense, 81 frames", "dense, 161 frames"}


def test_more_ranks_are_faster_up_to_the_link_and_have_room_where_one_has_none():
    gpu, shape = wan_cost_model.h100(), wan_cost_model.NETS["Wan 2.2 14B"]
    fast = [wan_cost_model.step_seconds(gpu, shape, 1560, 241, ranks, NVLINK) for ranks in (1, 2, 8, 32)]
    slow = [wan_cost_model.step_seconds(gpu, shape, 1560, 241, ranks, ETHERNET) for ranks in (1, 2, 8, 32)]
    assert fast == sorted(fast, reverse=True) and slow[0] == fast[0] and slow[-1] > 2 * fast[-1]
    assert [wan_cost_model.fits(gpu, shape, 1560, 10001, ranks) for ranks in (1, 64)] == [False, True]
    assert wan_scaling.steps(gpu, NVLINK, "Wan 2.2 14B", "832x480", 241)[64] is None  # of 61 latents


def test_a_second_clip_decodes_in_less_than_the_whole_and_more_than_half():
    assert 0.5 < wan_decode.counted(4, (4, 4)) < 1


def test_two_ranks_decode_what_one_does(ranks):
    seconds = ranks("decode_wan", 2)
    assert all(len(each["two"]) == 1 and each["two"][0] > 0 for each in seconds)
    assert seconds[0]["one"][0] > seconds[1]["one"][0]  # which does nothing meanwhile


def test_blocks_that_wait_take_what_the_formula_says():
    net = wan_standard.net()
    lives, said = wan_offload.peak(net, 12), wan_offload.formula(net, 12)
    assert lives <= said <= 1.1 * lives < wan_offload.bytes_of(net)


def test_a_profile_has_all_parts_and_they_are_the_call():
    clock = wan_profile.watched(wan_standard.net())
    clock.seconds = {wan_profile.WHOLE: 20.0, wan_profile.ATTENTION: 8.0, **dict(zip(wan_profile.SHOWN, (3.0, 0.0, 2.0, 6.0)))}
    assert list(clock.parts(2).values()) == [1.5, 2.5, 1.0, 3.0, 2.0, 0.0]
    for made in (wan_profile.stock(1, latents=2), wan_profile.ours(1, latents=2)):
        assert list(made) == list(wan_profile.SHOWN) and all(made[part] > 0 for part in wan_profile.SHOWN[:-1])


def test_the_page_has_a_row_of_each_gpu_link_net_size_and_length(tmp_path, monkeypatch):
    (tmp_path / "wan_scaling.json").write_text(json.dumps({"data": {"steps": wan_scaling.draw_up()}}))
    monkeypatch.setattr(performance_page, "BENCH", tmp_path)
    head, _, *rows = performance_page.wan_steps().splitlines()
    assert head.endswith("1 GPU | 2 GPUs | 4 GPUs | 8 GPUs | 16 GPUs | 32 GPUs | 64 GPUs |") and len(rows) == 5 * 2 * 2 * 3
    assert sum(row.endswith(" - |") for row in rows) == 5 * 2 * 2  # those of 61 latents


def test_the_pages_template_asks_for_what_its_writer_makes():
    asked = {field for _, field, _, _ in Formatter().parse(performance_page.TEMPLATE.read_text()) if field}
    assert asked == {*performance_page.PARTS, *performance_page.ROWS, "date", "machine"}
