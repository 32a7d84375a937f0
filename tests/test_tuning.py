"""How a job is run: slices, branches apart and parked skips leave the video as it is; stale context and reuse change it a little."""

import contextvars

import pytest
import torch

from harness import builders
from harness.places import BUNDLED
from parallel.comm.group import Group
from parallel.job.errors import Stopped
from parallel.job.job import Job, Prompt, Scope, Tuning, checked
from parallel.layers.activation import Activation
from parallel.layers.attention import Biases
from parallel.layers.call import Call
from parallel.layers.patch import patched
from parallel.layers.stale import Mode
from parallel.layers.turns import Turns
from parallel.layers.view import View
from parallel.maths.scope import Span
from parallel.models import unet3d
from parallel.plan import plan
from parallel.sampler.denoise import keeping_steps, set_call

RED = "a red circle orbiting clockwise on a gray background"


def job(**change) -> Job:
    values = {"model": str(BUNDLED), "prompts": (Prompt(frame=0, text=RED),), "frames": 12, "height": 64, "width": 64}
    values |= {"num_inference_steps": 8, "guidance_scale": 3.0, "scope": Scope(local_context=4, global_frames=4)}
    return checked(Job, **{**values, "decode": False, **change})


@pytest.fixture(scope="module")
def exact(pools) -> torch.Tensor:
    return pools(1).run(job()).latents


SHORT = {"frames": 9, "num_inference_steps": 3, "height": 32, "width": 32}  # of what no step or frame sees differently


@pytest.fixture(scope="module")
def exact_and_short(pools) -> torch.Tensor:
    return pools(1).run(job(**SHORT)).latents


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize(
    "tuning",
    [
        {"branches": "together"},
        {"branches": "apart"},
        {"branches": "apart", "park_skips": "always"},
        {"frames_at_once": 1, "pixels_at_once": 7},
        {"frames_at_once": 100, "pixels_at_once": 1000, "park_skips": "always"},
    ],
)
def test_slices_branches_and_parking_leave_the_video_as_it_is(pools, exact_and_short, size, tuning):
    assert (pools(size).run(job(**SHORT, tuning=Tuning(**tuning))).latents - exact_and_short).abs().max() < 1e-5


def test_stale_context_sends_less_and_stays_near(pools, exact):
    whole, stale = (pools(2).run(job(tuning=tuning)) for tuning in (Tuning(), Tuning(stale_after=3, stale_for=2)))
    steps_that_send = 3 + 2  # the exact ones, then at steps 4 and 6; the last sends nothing, for nobody would use it
    assert stale.ranks[0].messages - whole.ranks[0].messages == (steps_that_send - 8) * 2 * plan(job(), 2).messages_a_call
    apart = (stale.latents - exact).abs().mean()
    assert 1e-4 < apart < 0.1 * exact.std()


@pytest.mark.parametrize(
    "tuning, begin, kept",
    [
        (Tuning(), 0, []),
        (Tuning(stale_after=3, stale_for=2), 0, [2, 4, 6]),
        (Tuning(stale_after=3, stale_for=2), 5, [5, 7]),
        (Tuning(stale_after=4, stale_for=8, reuse_every=2), 0, [4, 12]),  # 3 runs the outermost layers only
        (Tuning(stale_after=4, stale_for=8, reuse_every=3), 0, [3, 12]),  # 11 does
    ],
)
def test_what_stale_steps_use_is_kept_when_all_layers_run(tuning, begin, kept):
    steps = 9 if tuning.stale_for == 2 else 20
    assert keeping_steps(tuning, steps, begin=begin) == kept
    call = Call()
    for index in range(begin, steps):
        set_call(call, tuning, index, kept, begin=begin)
        keeps, is_stale = call.mode in (Mode.KEEP, Mode.RENEW), call.mode in (Mode.STALE, Mode.RENEW)
        assert keeps == (index in kept) and is_stale == bool(kept and index > kept[0])
        assert not (keeps and call.outermost_only)


@pytest.mark.parametrize("begin, outermost_only", [(0, [1, 3, 5]), (3, [5])])
def test_the_first_step_of_a_run_has_nothing_to_reuse(begin, outermost_only):
    call, steps = Call(), {}
    for step in range(begin, 6):
        set_call(call, Tuning(reuse_every=2), step, [], begin=begin)
        steps[step] = call.outermost_only
    assert [step for step, only in steps.items() if only] == outermost_only


def test_stale_context_and_reuse_together_send_less_than_either(pools, exact):
    both = {"stale_after": 2, "stale_for": 4, "reuse_every": 2}
    apart = [
        pools(2).run(job(tuning=Tuning(**{k: v for k, v in both.items() if k in some}))) for some in (both, ("reuse_every",))
    ]
    assert apart[0].ranks[0].messages < apart[1].ranks[0].messages
    assert (apart[0].latents - exact).abs().mean() < 0.5 * exact.std()


def test_a_stop_between_stale_steps_leaves_no_message_under_way(pools, exact_and_short):
    """The next job on the same ranks must get its own messages."""
    seen, tuning = [], Tuning(stale_after=1, stale_for=1)
    with pytest.raises(Stopped):
        stop = lambda: any(step.step >= 3 for step in seen if step.phase == "denoise")  # noqa: E731
        long = job(**{**SHORT, "num_inference_steps": 200}, tuning=tuning)
        pools(2).run(long, on_step=lambda step, _: seen.append(step), should_stop=stop)
    assert (pools(2).run(job(**SHORT)).latents - exact_and_short).abs().max() < 1e-5


def test_a_message_is_gone_when_it_is_read(ranks):
    """Else a clip would keep the last one of every layer: a gigabyte for VideoCrafter2."""
    assert ranks("kept_messages", 2, stale=False) == [0, 0]
    assert ranks("kept_messages", 2, stale=True)[0] > 0


def test_stale_context_on_one_rank_changes_nothing(pools, exact_and_short):
    assert (pools(1).run(job(**SHORT, tuning=Tuning(stale_after=1))).latents - exact_and_short).abs().max() < 1e-5


@pytest.mark.parametrize("branches", ["together", "apart"])
def test_reuse_makes_the_same_video_on_any_ranks_and_stays_near(pools, exact_and_short, branches):
    tuning = Tuning(reuse_every=2, branches=branches)
    one, two = (pools(size).run(job(**SHORT, tuning=tuning)) for size in (1, 2))
    assert (one.latents - two.latents).abs().max() < 1e-4
    assert 1e-3 < (one.latents - exact_and_short).abs().mean() < 0.5 * exact_and_short.std()


def test_reuse_runs_the_outermost_blocks_only():
    net = builders.unet()
    view = View(Group(0, 1, torch.device("cpu")), Span(4, 4, 0))
    changes = unet3d.frame_changes(net, view, Biases(view)) + unet3d.reuse_changes(net, view.call)
    ran = []
    for name in ("down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.0", "up_blocks.1"):
        net.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
    x, text = torch.randn(1, 4, 4, 8, 8), torch.randn(1, 5, 16)
    with torch.inference_mode(), patched(changes):
        first = net(x, 500, encoder_hidden_states=text).sample
        ran.clear()
        view.call.outermost_only = True
        again = net(x, 500, encoder_hidden_states=text).sample
    assert ran == ["down_blocks.0", "up_blocks.1"]
    assert torch.allclose(first, again, atol=1e-5), "the same input makes the same deep features"


def test_an_activation_is_gone_after_its_last_reader():
    skip = Activation(torch.ones(3, 2, 1, 1), reads=2, offload=True)
    skip.done()
    below = Activation(torch.zeros(3, 1, 1, 1))
    joined = torch.cat([below, skip], dim=1)
    assert joined.shape == (3, 3, 1, 1) and joined.rows(slice(1, 2)).flatten().tolist() == [0, 1, 1]
    joined.done()
    assert skip.tensor is None and below.tensor is None
    with pytest.raises(AssertionError, match="read more often than was said"):
        skip.rows(slice(None))


def test_turns_change_at_every_wait_and_end_together():
    turns, said = Turns(torch.device("cpu")), []

    def work(name: str, waits: int) -> str:
        for number in range(waits):
            said.append(f"{name}{number}")
            turns.pass_on()
        return name

    assert turns.run([lambda: work("a", 2), lambda: work("b", 3)]) == ["a", "b"]
    assert said == ["a0", "b0", "a1", "b1", "b2"]


def test_a_turn_works_in_the_callers_context():
    """Where torch keeps its settings, such as what to do with a layer that can't be compiled."""
    setting = contextvars.ContextVar("setting", default="none")
    setting.set("ours")
    assert Turns(torch.device("cpu")).run([setting.get, setting.get]) == ["ours", "ours"]


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failure_in_one_turn_ends_the_other_and_is_raised(failing):
    turns, went_on = Turns(torch.device("cpu")), []

    def work(me: int) -> None:
        turns.pass_on()
        if me == failing:
            raise OSError("mine")
        turns.pass_on()
        went_on.append(me)

    with pytest.raises(OSError, match="mine"):
        turns.run([lambda: work(0), lambda: work(1)])
    assert not went_on
