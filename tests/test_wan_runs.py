"""Wan's jobs as the pool runs them: lost ranks, stops, snapshots, inits, types, tuning, and any length."""

from itertools import product

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from harness import faulty_worker, wan_builders
from parallel.families import folder
from parallel.job.errors import Stopped
from parallel.job.job import Prompt, Scope, Tuning
from parallel.layers import dual_scope
from parallel.layers.view import View
from parallel.maths.scope import Span
from parallel.maths.slices import Slices
from parallel.models import table
from parallel.pool import Pool, snapshot_file
from parallel.pool.snapshot_file import Stored
from parallel.pool.watch import Patience
from parallel.sampler import generate as sampler
from parallel.sampler import interrupt
from parallel.sampler.generate import Blocks, generate
from parallel.wire.snapshot import Snapshot, shapes
from tests.test_sampler import LargestAttention
from tests.test_wan import ALONE, job_of, narrow, run

BLOCKS = 2  # of a net, and so exchanges a call
STEPS = 6  # two of them by the first net
SHORT = Patience(first=20, floor=2, factor=10)


@pytest.fixture(scope="module")
def work(wan):
    return narrow(wan, frames=26, decode=True, num_inference_steps=STEPS)


@pytest.fixture(scope="module")
def undisturbed(work, pools):
    return pools(3).run(work)


@pytest.fixture(scope="module")
def timed(tmp_path_factory):
    """A folder of TI2V-5B's form."""
    return wan_builders.wan_folder(tmp_path_factory.mktemp("timed"), timed=True)


def near(got: torch.Tensor, wanted: torch.Tensor, within: float = 1e-4) -> bool:
    return bool((got - wanted).abs().max() <= within)


@pytest.mark.parametrize(
    "point, rank, step", [("middle step", 2, (2, 3)), ("last step", 0, (STEPS - 1, STEPS)), ("decode", 1, (STEPS,))]
)
def test_a_lost_rank_costs_a_step_and_not_the_video(work, undisturbed, point, rank, step):
    """Lost with the last step, others wait for its latents, which they decode with; from then on only decoding is left."""
    told = []
    with faulty_worker.faulty(rank, point, "SIGKILL"), Pool(("cpu",) * 3, threads=1, patience=SHORT) as pool:
        got = pool.run(work, on_notice=told.append)
        assert len(pool.process_ids) == 2 and got.restarts == len(told) == 1
    assert f"rank {rank} on cpu" in told[0] and any(f"going on from step {each} on cpu,cpu" in told[0] for each in step)
    assert near(got.latents, undisturbed.latents) and near(got.frames, undisturbed.frames, 1 / 255)


def snapshot_of(job) -> Snapshot:
    model = folder.check(job, 1)
    planes, marks = shapes(model.latents_shape(job), model.history(job.scheduler), job.frames)
    return Snapshot(torch.zeros(planes), torch.zeros(marks, dtype=torch.int64))


def blocks_of(job, **more) -> Blocks:
    latents = torch.zeros(folder.check(job, 1).latents_shape(job))
    return Blocks(latents, torch.zeros(job.frames, job.height, job.width, 3), **more)


def generate_until(model, job, blocks, stops=lambda *said: False):
    """Run a job on one rank in this process; return what it reported. It is asked to stop when `stops` says so of a report."""
    said = []
    generate(
        model, job, blocks, ALONE, report=lambda *step: said.append(step), stopping=lambda: bool(said) and stops(*said[-1])
    )
    return said


@pytest.mark.parametrize("scheduler, stop", [("uni_pc", 1), ("uni_pc", 4), ("dpmpp_2m", 4), ("euler", 4)])
def test_a_run_goes_on_from_a_file_on_other_ranks_in_either_nets_part(wan, pools, tmp_path, scheduler, stop):
    job = narrow(wan, num_inference_steps=STEPS, scheduler=scheduler)
    blocks, file = blocks_of(job, snapshot=snapshot_of(job)), tmp_path / "kept.safetensors"
    with pytest.raises(Stopped):
        model = table.load(folder.check(job, 1), torch.float32)
        generate_until(model, job, blocks, lambda *said: said[:2] == ("denoise", stop))
    step, planes = blocks.snapshot.copy()
    snapshot_file.save(file, Stored(job, step, planes))
    kept, steps = snapshot_file.load(file), []
    got = pools(3).run(kept.job, stored=kept, on_step=lambda step, _: steps.append((step.phase, step.step)))
    assert kept.step == stop and ("denoise", stop) in steps and ("denoise", stop - 1) not in steps
    assert near(got.latents, pools(2).run(job).latents)


def test_what_is_left_to_decode_is_decoded_without_the_nets_and_as_nobody_waits_unsaid(work, undisturbed, monkeypatch):
    """The latents before a clip come from other ranks, who may be late: they do while all are in the phase in which all wait."""
    reports, fetched, moved = [], [], []
    with_context, to = sampler.with_context, torch.nn.Module.to
    monkeypatch.setattr(sampler, "with_context", lambda *given: (fetched.append(reports[-1]), with_context(*given))[1])
    monkeypatch.setattr(torch.nn.Module, "to", lambda part, *how: (moved.append(part), to(part, *how))[1])
    model, kept = table.load(folder.check(work, 1), torch.float32), snapshot_of(work)
    history = torch.zeros(len(kept.planes[0]) - 1, *undisturbed.latents.shape[1:])
    kept.write_video(STEPS, torch.cat([undisturbed.latents, history]))
    kept.mark_decoded([0, 1, 2, 3, 4, 20])
    blocks = blocks_of(work, snapshot=kept, resume=STEPS)
    moved.clear()
    generate(model, work, blocks, ALONE, report=lambda *step: reports.append(step), stopping=lambda: False)
    assert fetched == [("denoise", STEPS, STEPS)] and set(moved) == {model.vae}
    assert not blocks.frames_THWC[:5].any(), "they were there"
    assert near(blocks.frames_THWC[5:20], undisturbed.frames[5:20], 1e-5)


@pytest.mark.parametrize("phase", ["encode", "denoise", "decode"])
def test_a_stop_is_heard_in_every_phase_and_leaves_the_model_as_it_was(wan, monkeypatch, phase):
    monkeypatch.setattr(interrupt, "ASK_SECONDS", -1)
    job = job_of(wan, denoise=0.7)
    model = table.load(folder.check(job, 1), torch.float32)

    def form():
        modules = [module for part in (*model.nets, model.vae, model.text_encoder) for module in part.modules()]
        hooks = [hook for module in modules for hook in (*module._forward_pre_hooks, *module._forward_hooks)]
        return hooks, [(type(module), getattr(module, "processor", None)) for module in modules]

    before, blocks = form(), blocks_of(job, init=torch.rand(13, 32, 32, 3))
    with pytest.raises(Stopped):
        generate_until(model, job, blocks, lambda now, step, _: now == phase and (step > 0 or phase != "denoise"))
    assert form() == before and not before[0]
    whole = blocks_of(job, init=blocks.init)
    generate_until(model, job, whole)
    assert form() == before and whole.frames_THWC.std() > 0.01


def test_who_waits_for_the_text_of_another_rank_says_so_and_all_stop_together(wan, pools):
    """The first rank alone has the text encoder. A rank that waits for it must not be blamed, nor stop without the others."""
    texts = [" ".join(words) for words in product(["cat", "dog", "runs", "sleeps"], repeat=4)]
    prompts = tuple(Prompt(frame=frame, text=text) for frame, text in enumerate(texts))
    job, seen = narrow(wan, frames=len(texts), prompts=prompts, fade=0, num_inference_steps=1), []
    pool = pools(3)
    pool.run(job, on_step=lambda step, _: seen.append(step))
    last = {
        rank: [(step.step, step.steps) for step in seen if (step.rank, step.phase) == (rank, "encode")] for rank in range(3)
    }
    one_part = [(1, 1)]  # all is done, but for what others do
    parts = [(number, 6) for number in range(1, 6)]
    assert all(said == [(0, 1), *[each for part in parts for each in (*one_part, part)], (1, 1)] for said in last.values())
    ranks = pool.process_ids
    with pytest.raises(Stopped):
        started = lambda: any((step.phase, step.step > 1) == ("encode", True) for step in seen)  # noqa: E731
        seen.clear()
        pool.run(job, on_step=lambda step, _: seen.append(step), should_stop=started)
    assert not any(step.phase == "denoise" for step in seen) and pool.process_ids == ranks


def test_a_stop_while_decoding_leaves_the_ranks_warm(work, undisturbed, pools):
    pool, seen = pools(3), []
    ranks = pool.process_ids
    with pytest.raises(Stopped):
        stop = lambda: any(step.phase == "decode" for step in seen)  # noqa: E731
        pool.run(work.model_copy(update={"width": 256}), on_step=lambda step, _: seen.append(step), should_stop=stop)
    assert near(pool.run(work).frames, undisturbed.frames, 1e-6) and pool.process_ids == ranks


def test_an_init_is_encoded_by_the_vae_as_stock_does(timed, pools):
    job = job_of(timed, frames=18, height=64, width=64, num_inference_steps=0, decode=False)
    init = torch.rand(18, 64, 64, 3)
    got = pools(3).run(job, init=init).latents
    vae = AutoencoderKLWan.from_pretrained(timed / "vae")
    video = torch.cat([init, init[-1:].expand(3, -1, -1, -1)]).permute(3, 0, 1, 2)[None] * 2 - 1
    mean, std = (torch.tensor(getattr(vae.config, name)).view(1, -1, 1, 1, 1) for name in ("latents_mean", "latents_std"))
    with torch.no_grad():
        wanted = (vae.encode(video).latent_dist.mode() - mean) / std
    assert got.shape == (1, 4, 6, 4, 4) and near(got, wanted, 1e-5)


@pytest.mark.parametrize("kind", ["frames", "picture", "latents"])
def test_a_video_from_an_init_is_the_same_on_any_ranks(timed, pools, kind):
    job = job_of(timed, frames=10, height=64, width=64, denoise=0.6, num_inference_steps=4, scope=Scope(local_context=4))
    init = {"frames": torch.rand(10, 64, 64, 3), "latents": torch.randn(4, 4, 4, 4)}
    init["picture"] = (init["frames"][:1] * 255).to(torch.uint8)
    options = {"init": init[kind], "init_is_latents": kind == "latents"}
    one, three = (pools(size).run(job, **options) for size in (1, 3))
    assert near(three.latents, one.latents) and near(three.frames, one.frames, 1 / 255)
    other = pools(1).run(job, **{**options, "init": init[kind].flip(2)})
    assert (other.latents - one.latents).abs().mean() > 5e-4, "it is what the video comes from"


def test_a_job_of_no_steps_decodes_latents(work, undisturbed, pools):
    job = work.model_copy(update={"num_inference_steps": 0})
    decoded = pools(2).run(job, init=undisturbed.latents[0], init_is_latents=True)
    assert torch.equal(decoded.latents, undisturbed.latents) and near(decoded.frames, undisturbed.frames, 1 / 255)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_near(wan, pools, dtype):
    whole, half = (job_of(wan, dtype=name, frames=9, num_inference_steps=2) for name in ("float32", dtype))
    wanted, one, two = pools(1).run(whole), pools(1).run(half), pools(2).run(half)
    for got in (one, two):
        assert 0 < (got.latents - wanted.latents).abs().mean() < 0.03 * wanted.latents.std()
        assert (got.frames - wanted.frames).abs().mean() < 0.03


def test_a_net_that_is_not_at_work_waits_in_host_memory(wan, monkeypatch):
    job, seen = job_of(wan, num_inference_steps=STEPS, offload="parts", frames=9), []
    expected, _ = run(job.model_copy(update={"offload": "none"}))
    model = table.load(folder.check(job, 1), torch.float32)
    parts = {"first": model.transformer, "second": model.transformer_2, "vae": model.vae, "text": model.text_encoder}
    resident = sampler.resident

    def watched(part, **how):
        seen.append((next(name for name, each in parts.items() if each is part), how["offload"]))
        return resident(part, **how)

    monkeypatch.setattr(sampler, "resident", watched)
    blocks = blocks_of(job)
    generate_until(model, job, blocks)
    assert seen == [(name, "parts") for name in ("text", "first", "second", "vae")]
    assert torch.equal(blocks.latents_CTHW, expected)


@pytest.mark.gpu
def test_one_net_at_a_time_is_on_the_gpu(wan):
    job = narrow(wan, num_inference_steps=STEPS, offload="parts")
    model, seen = table.load(folder.check(job, 1), torch.float32), []
    group = ALONE.__class__(0, 1, torch.device("cuda:0"))
    report = lambda phase, step, _: seen.append((phase, step, *(net.device.type for net in model.nets)))  # noqa: E731
    generate(model, job, blocks_of(job), group, report=report, stopping=lambda: False)
    assert {("denoise", 1, "cuda", "cpu"), ("denoise", STEPS, "cpu", "cuda")} <= set(seen)


@pytest.mark.parametrize("guidance, calls", [(5.0, 2), (1.0, 1)])
def test_a_report_counts_messages_and_seconds(wan, pools, guidance, calls):
    reports = pools(2).run(job_of(wan, guidance_scale=guidance)).ranks
    assert [report.messages for report in reports] == [BLOCKS * calls * 3 + 1] * 2, "and one before they decode"
    assert all(set(report.seconds) == {"load", "encode", "denoise", "decode"} for report in reports)
    assert all(report.sent_bytes > 0 for report in reports[:1])


@pytest.fixture(scope="module")
def plain(wan, pools):
    return pools(1).run(narrow(wan)).latents


SLICES = {"frames_at_once": 1, "pixels_at_once": 3}


@pytest.mark.parametrize("size, tuning", [(1, SLICES), (2, SLICES), (1, {"frames_at_once": 99}), (2, {"branches": "apart"})])
def test_slices_and_branches_leave_the_video_as_it_is(wan, pools, plain, size, tuning):
    assert near(pools(size).run(narrow(wan, tuning=Tuning(**tuning))).latents, plain, 1e-5)


@pytest.mark.parametrize("travel", ["hidden_states", "keys_values"])
def test_stale_context_stays_near_and_each_net_begins_exact(wan, pools, travel):
    """What the first net's layers kept is of no use to the second's."""
    job = narrow(wan, num_inference_steps=STEPS, guidance_scale=1.0)
    exact = pools(1).run(job).latents
    stale = job.model_copy(update={"tuning": Tuning(stale_after=1, stale_for=99, travel=travel)})
    assert near(pools(1).run(stale).latents, exact, 1e-5), "on one rank nothing is stale"
    two = pools(2).run(stale)
    assert two.ranks[0].messages == 2 * BLOCKS, "one step of each net"
    assert 1e-4 < (two.latents - exact).abs().mean() < 0.2 * exact.std()


def test_a_stop_between_stale_steps_leaves_no_message_under_way(wan, pools, plain):
    job, seen = narrow(wan), []
    with pytest.raises(Stopped):
        long = narrow(wan, num_inference_steps=300, tuning=Tuning(stale_after=1, stale_for=1))
        stop = lambda: any(step.step >= 3 for step in seen if step.phase == "denoise")  # noqa: E731
        pools(2).run(long, on_step=lambda step, _: seen.append(step), should_stop=stop)
    assert near(pools(2).run(job).latents, plain, 1e-5)


def test_mixed_noise_is_the_same_on_any_ranks(wan, pools):
    one, three = (pools(size).run(narrow(wan, noise={"kind": "mixed"})).latents for size in (1, 3))
    assert near(three, one)


def test_a_single_frame_is_a_video(wan, pools):
    got = pools(1).run(narrow(wan, frames=1, decode=True, prompts=({"frame": 0, "text": "a cat"},)))
    assert got.latents.shape == (1, 4, 1, 4, 4) and got.frames.shape == (1, 32, 32, 3) and got.frames.std() > 0.01


def test_more_latents_than_stock_takes_are_the_same_on_two_ranks(wan, pools):
    net, text = WanTransformer3DModel.from_pretrained(wan / "transformer"), torch.zeros(1, 8, wan_builders.TEXT)
    with pytest.raises(RuntimeError), torch.no_grad():
        net(torch.zeros(1, 4, 1100, 2, 2), torch.tensor([500]), text)
    long = narrow(wan, frames=4397, height=16, width=16, num_inference_steps=2, guidance_scale=1.0)
    one, two = (pools(size).run(long).latents for size in (1, 2))
    assert one.shape == (1, 4, 1100, 2, 2) and near(two, one) and torch.isfinite(one).all()


@pytest.mark.parametrize("biases", [(0.0, 0.0), (1.0, -1.0)])
def test_no_attention_tensor_grows_with_the_video_and_there_is_no_mask(wan, monkeypatch, biases):
    job, largest, attend = narrow(wan, tuning=Tuning(frames_at_once=4)), {}, dual_scope.scaled_dot_product_attention

    def attends(q, k, v, scale):
        return attend(q, k, v, scale=scale)

    monkeypatch.setattr(dual_scope, "scaled_dot_product_attention", attends)
    model = table.load(folder.check(job, 1), torch.float32)
    for latents in (40, 160):
        view = View(ALONE, Span(latents, 2, 3), Slices(frames=4))
        view.call.biases = biases
        plans = dual_scope.Plans(view, "near")
        attention = dual_scope.DualScopeAttention(view, plans, dual_scope.Grid((2, 2), 12), travel="hidden_states")
        attn = model.transformer.blocks[0].attn1
        with LargestAttention() as record, torch.inference_mode():
            attention(attn, torch.randn(1, latents * 4, 24))
        largest[latents] = record.largest
        assert record.calls > 0
    assert largest[40] == largest[160]
