"""What the benchmarks of Wan reckon with, apart from time."""

import json

import pytest
import torch

from benchmarks import gpu, gpu_page, wan_memory, wan_plan
from benchmarks.wan_memory import Case

SMALL_VAE = {
    "scale_factor_spatial": 4,
    "base_dim": 16,
    "dim_mult": [1, 2, 4],
    "temperal_downsample": [True, True],
    "num_res_blocks": 1,
}


@pytest.mark.filterwarnings("ignore:There are modules")
@pytest.mark.parametrize(
    "case",
    [
        Case("1.3B", 10),
        Case("1.3B", 10, dtype=torch.float32),
        Case("1.3B", 10, ranks=4),
        Case("14B", 10, 2, 4),
        Case("14B", 3, held="F8_E4M3"),
        Case("14B", 3, held="Q4_K"),
        Case("14B", 3, held="Q6_K"),
        Case("1.3B", 10, held="Q4_K"),
    ],
    ids=str,
)
def test_a_call_takes_what_the_formula_says(case):
    lives, said = wan_memory.call_peak(case), wan_memory.call_formula(case)
    assert lives <= said <= 1.1 * lives


@pytest.mark.parametrize("config", [{}, wan_memory.VAE_22, SMALL_VAE], ids=["Wan 2.1", "Wan 2.2 5B", "small"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_decode_takes_what_the_formula_says(config, dtype):
    sizes = {"config": config, "dtype": dtype, "height": 240, "width": 416}
    lives, said = wan_memory.decode_peak(**sizes), wan_memory.decode_formula(**sizes)
    assert lives <= said <= 1.1 * lives


@pytest.mark.parametrize("travel", wan_plan.TRAVELS)
def test_real_ranks_send_what_the_formula_says(ranks, travel):
    met = ranks("meter_wan", 2, travel=travel)
    assert [sent for _, sent in met] == wan_plan.sent(wan_plan.SMALL, wan_plan.SIDE**2, 2, travel, item=4)
    assert {messages for messages, _ in met} == {wan_plan.SMALL.num_layers}


def test_a_step_of_a14b_sends_a_latents_tokens_by_its_width_for_each_block():
    """On two ranks of 61 latents one sends the 6 beside the border and the 3 others of its 4 global ones that are not among them."""
    latent = wan_plan.A14B.width * 1560 * 2
    said = wan_plan.row(2)
    assert said["GB a step, cfg 1, hidden_states"] == 40 * 9 * latent / 1e9
    assert said["GB a step, cfg > 1, keys_values"] == 4 * said["GB a step, cfg 1, hidden_states"]
    assert said["MB once, before frames are decoded"] == 31 * 16 * 60 * 104 * 4 / 1e6


def test_only_a_way_of_whole_videos_waits_for_others(ranks):
    met = ranks("hide_wan", 2)
    for way, measured in met[0].items():
        assert len(measured["seconds"]) == 1 and measured["seconds"][0] > 0
        assert (measured["waited"][0] > 0) == way.startswith("whole"), way
    assert len(met[0]) == 10


@pytest.mark.filterwarnings("ignore")
def test_the_gpu_benchmark_runs_to_its_end_at_toy_sizes(tmp_path, monkeypatch):
    out = tmp_path / "gpu.json"
    monkeypatch.setattr("sys.argv", ["gpu", "--device", "cpu", "--toy", "--out", str(out)])
    assert gpu.main() == 0
    found = json.loads(out.read_text())
    assert not found["errors"] and all(row["seconds"] > 0 for row in found["rows"].values())
    for part in ("attention, 14B, dual scope", "net, 1.3B, 17 latents, dual scope", "decode, ours, in the middle"):
        assert part in found["rows"] and part in gpu_page.page(found)


def test_a_part_of_the_gpu_benchmark_that_breaks_is_told_of_and_ends_no_other(tmp_path, monkeypatch):
    def breaks(bench):
        raise RuntimeError("out of luck")

    out = tmp_path / "gpu.json"
    monkeypatch.setitem(gpu.PARTS, "attention", breaks)
    monkeypatch.setattr("sys.argv", ["gpu", "--device", "cpu", "--toy", "--out", str(out), "--parts", "attention", "decode"])
    assert gpu.main() == 1
    found = json.loads(out.read_text())
    assert found["errors"] == {"attention": "RuntimeError: out of luck"} and "decode, ours" in found["rows"]
