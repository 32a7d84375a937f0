"""What the benchmarks reckon with, apart from time."""

import json

import pytest
import torch

from benchmarks import claims, compare, cost_model, exchanges, standard
from parallel.folder import UNetShape
from parallel.maths.scope import Span


@pytest.mark.parametrize("value, target, holds", [(1.0, "<= 1.0", True), (1.01, "<= 1.0", False), (0.94, ">= 0.95", False)])
def test_a_claim_holds_up_to_its_bound(value, target, holds):
    assert claims.Claim("speed", value, target).holds is holds


def test_a_report_leaves_what_it_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(claims, "FOLDER", tmp_path / "bench")
    missed = claims.report("speed", [claims.Claim("speed", 2.0, "<= 1.0", {"seconds": 0.5})], 0.0, rows=[1])
    left = json.loads((tmp_path / "bench" / "speed.json").read_text())
    assert missed == 1 and "MISSED speed: 2" in capsys.readouterr().out
    assert left["claims"]["speed"] == {"value": 2.0, "target": "<= 1.0", "holds": False, "details": {"seconds": 0.5}}
    assert left["data"] == {"rows": [1]} and left["command"] == "python -m benchmarks.speed"


def test_one_message_a_layer_would_be_227_on_videocrafter2():
    assert exchanges.naive(UNetShape()) == 227


def test_the_cost_model_gives_the_papers_time_back_without_its_synchronisation():
    gpu = cost_model.paper_gpu(cost_model.LINKS[0])
    alone = cost_model.call_seconds(gpu, Span(288, 8, 16), 1, 0, 0) * cost_model.PAPER_STEPS
    assert alone == pytest.approx(312 / 1.29, rel=0.01)


def test_more_ranks_are_faster_and_a_slower_link_is_slower():
    fast, slow = (cost_model.paper_gpu(cost_model.LINKS[place]) for place in (0, -1))
    times = [cost_model.crafter_seconds(slow, 2300, ranks) for ranks in (1, 2, 8)]
    assert times == sorted(times, reverse=True)
    assert cost_model.crafter_seconds(fast, 2300, 8) < cost_model.crafter_seconds(slow, 2300, 8)
    assert cost_model.crafter_seconds(fast, 2300, 1) == cost_model.crafter_seconds(slow, 2300, 1)


def test_windows_that_agree_average_to_the_whole():
    """With a model that looks at each frame alone, every way makes the same frames."""

    class Alone:
        def __call__(self, video, timestep, encoder_hidden_states):
            return type("Out", (), {"sample": 2 * video})()

    video, text = standard.call(40, 4)
    for way in (compare.whole, compare.clips, compare.windows):
        assert torch.allclose(way(Alone())(video, text), 2 * video, atol=1e-6)
