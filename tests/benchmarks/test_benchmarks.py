"""What the benchmarks reckon with, apart from time."""

import json

import pytest
import torch

from benchmarks import claims, compare, cost_model, exchanges, standard
from benchmarks.scaling import span_of
from parallel.families.unet_shape import UNetShape
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


CRAFTER = cost_model.model("video_crafter", *standard.VIDEO_CRAFTER_LATENT)


def seconds(link: cost_model.Link, ranks: int, turns: bool = False) -> float:
    """Return a call of VideoCrafter2, 2,300 frames, on the paper's GPU."""
    span = Span(2300, 8, 16)
    compute = cost_model.compute_seconds(cost_model.paper_machine(), CRAFTER, span, ranks)
    sent = cost_model.sent_bytes(CRAFTER, span, ranks, item=2)
    return cost_model.call_seconds(compute, sent, len(CRAFTER.layers), link, ranks=ranks, turns=turns)


def test_videocrafter2s_flop_are_those_that_are_known():
    assert 24 * CRAFTER.frame_flop == pytest.approx(standard.VIDEO_CRAFTER_CALL_TFLOP * 1e12, rel=0.005)


def test_the_cost_model_gives_the_papers_time_back_without_its_synchronisation():
    alone = cost_model.compute_seconds(cost_model.paper_machine(), CRAFTER, Span(288, 8, 16), 1)
    assert alone * cost_model.PAPER_STEPS == pytest.approx(312 / 1.29, rel=0.01)


def test_a_machine_is_found_again_from_two_of_its_calls():
    machine = cost_model.Machine(5e10, 2e-11)
    work = [
        (cost_model.call_flop(CRAFTER, span, 1), cost_model.call_pairs(CRAFTER, span, 1)) for span in map(span_of, (16, 40))
    ]
    few, many = ((flop, pairs, flop / machine.flops + pairs * machine.pair_seconds) for flop, pairs in work)
    found = cost_model.fit(few, many)
    assert (found.flops, found.pair_seconds) == pytest.approx((machine.flops, machine.pair_seconds))


def test_more_ranks_are_faster_and_a_slower_link_is_slower():
    fast, slow = cost_model.LINKS[0], cost_model.LINKS[-1]
    times = [seconds(slow, ranks) for ranks in (1, 2, 8)]
    assert times == sorted(times, reverse=True)
    assert seconds(fast, 8) < seconds(slow, 8) and seconds(fast, 1) == seconds(slow, 1)


def test_turns_hide_frames_behind_compute_but_not_more_than_there_is():
    """On few ranks all of it; on many the link is what takes time."""
    fast, slow = cost_model.LINKS[0], cost_model.LINKS[-1]
    assert seconds(fast, 8, turns=True) == cost_model.compute_seconds(cost_model.paper_machine(), CRAFTER, Span(2300, 8, 16), 8)
    bytes_alone = cost_model.sent_bytes(CRAFTER, Span(2300, 8, 16), 512, item=2) / slow.bandwidth
    assert bytes_alone <= seconds(slow, 512, turns=True) < seconds(slow, 512)


def test_windows_that_agree_average_to_the_whole():
    """With a model that looks at each frame alone, every way makes the same frames."""

    class Alone:
        def __call__(self, video, timestep, encoder_hidden_states):
            return type("Out", (), {"sample": 2 * video})()

    video, text = standard.call(40, 4)
    for way in (compare.whole, compare.clips, compare.windows):
        assert torch.allclose(way(Alone())(video, text), 2 * video, atol=1e-6)
