"""Video Plan: what a sampler with these inputs will do, as a picture and as text, before anything runs."""

import torch
from comfy_api.latest import io

from ..parallel.families import folder
from ..parallel.job.job import Keyframe
from ..parallel.plan import Plan, fitting, notices, plan, sent_bytes, sent_once
from ..parallel.pool.devices import resolve
from . import host
from .keyframes import with_keyframes
from .plan_picture import draw
from .sockets import CATEGORY, Model, ModelChoice, RanksChoice, Timeline, TimelineText
from .widgets import (
    build_job,
    checks_widgets,
    fill_sizes,
    keyframes_input,
    length_inputs,
    ranks_input,
    scheduler_input,
    scope_input,
    size_inputs,
    tuning_input,
    two_net_inputs,
)


class VideoPlan(io.ComfyNode):
    """Show clips, scopes, prompts, memory and messages of a job."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoInfinityVideoPlan",
            display_name="Video Plan",
            category=CATEGORY,
            description="Shows what the sampler would do with the same inputs: which rank makes which frames, what a frame "
            "sees and hears, how much memory it takes. Nothing is loaded.",
            search_aliases=["dry run", "memory estimate", "preview plan", "timeline picture"],
            inputs=[
                Model.Input("model", tooltip="From Load Video Model."),
                Timeline.Input("timeline", tooltip="From Prompt Timeline."),
                *size_inputs(),
                *length_inputs(),
                io.Float.Input("cfg", default=3.0, min=0.0, max=100.0, step=0.5, tooltip="Above 1 the net works twice."),
                io.Boolean.Input("loop", default=False, tooltip="The last frame leads into the first."),
                io.Int.Input("frame", default=40, min=0, max=99_999, tooltip="The frame whose scopes are drawn."),
                io.Int.Input(
                    "planned_ranks",
                    default=0,
                    min=0,
                    max=4096,
                    tooltip="Plan for so many ranks, whether this machine has them or not; 0: as Worker Ranks says.",
                ),
                ranks_input(),
                scope_input(),
                tuning_input(),
                scheduler_input(optional=True),
                *two_net_inputs(),
                keyframes_input(),
            ],
            outputs=[
                io.Image.Output("picture", tooltip="The video's time axis: clips by rank, one frame's scopes, prompts."),
                io.String.Output("text", tooltip="The same in words, with memory and messages."),
            ],
        )

    @classmethod
    @checks_widgets
    def execute(
        cls,
        model: ModelChoice,
        timeline: TimelineText,
        width: int,
        height: int,
        frames: int,
        frame: int,
        planned_ranks: int,
        ranks=None,
        scope=None,
        tuning=None,
        keyframes=(),
        **widgets,
    ) -> io.NodeOutput:
        parts = folder.inspect(model.model, model.parts, model.files)
        sizes = fill_sizes(parts, width=width, height=height, frames=frames)
        job, _ = with_keyframes(build_job(model, timeline, scope, tuning, **sizes, **widgets), keyframes)
        latents = parts.geometry.latents(job.frames)
        count = planned_ranks or len(resolve((ranks or RanksChoice()).devices, frames=latents))
        outline = plan(job, count, parts)
        shown = min(frame, job.frames - 1)
        pixels = torch.frombuffer(bytearray(draw(outline, shown).tobytes()), dtype=torch.uint8)
        sent = {"sent": max(sent_bytes(parts, job, count)), "once": max(sent_once(parts, job, count))}
        free = host.free_bytes(resolve((ranks or RanksChoice()).devices, frames=latents))
        remarks = [*parts.remarks(job), *parts.missing]
        words = describe(outline, shown, remarks=remarks, warnings=notices(job, parts), free=free, **sent)
        return io.NodeOutput(pixels.view(1, -1, 1280, 3).float() / 255, words)


def describe(
    outline: Plan,
    frame: int,
    *,
    sent: int,
    once: int,
    remarks: list[str],
    warnings: list[str],
    free: int | None = None,
) -> str:
    """Return the plan in words, with what its model's family says, what may go wrong, and the bytes that its busiest rank sends in a call and once.

    `free` are those that every GPU which would work has, if any would.
    """
    job, memory = outline.job, outline.memory
    sizes = sorted({len(frames) for frames in outline.frames}, reverse=True)
    ranks = f"{len(outline.clips)} rank" + ("s" if len(outline.clips) > 1 else "")
    lines = [
        f"{job.frames} frames of {job.width}x{job.height} ({job.frames / job.fps:.1f} s at {job.fps:g} fps) on {ranks}, "
        f"{' or '.join(map(str, sizes))} frames each",
        *_latents(outline),
        *_sight(outline, frame),
        *remarks,
        f"memory a rank: about {_gb(memory.peak)}: weights {_gb(memory.weights)}, and {_gb(memory.denoise)} to denoise, "
        f"or {_gb(memory.decode)} to decode",
        f"memory of ComfyUI for the IMAGE: {_gb(outline.shared_bytes)}",
        _offload(outline, free),
        *_host_memory(outline),
        _messages(outline, sent, once),
    ]
    lines += warnings
    lines += [_keyframe(keyframe) for keyframe in job.keyframes]
    for number, prompt in enumerate(job.prompts):
        end = job.prompts[number + 1].frame if number + 1 < len(job.prompts) else job.frames
        lines.append(f"frames {prompt.frame} to {end - 1}: {prompt.text}")
    return "\n".join(lines)


def _keyframe(keyframe: Keyframe) -> str:
    """Return a line on frames that are given."""
    where = f"frame {keyframe.frame}" if keyframe.count == 1 else f"frames {keyframe.frame} to {keyframe.last}"
    held = "" if keyframe.strength == 1 else f", held for {keyframe.strength:.0%} of the steps"
    return f"{where}: given{held}; always in the global scope"


def _offload(outline: Plan, free: int | None) -> str:
    """Return a line on what offloading would save and, of GPUs whose free memory is known, what fits."""
    line = "offload: a rank takes about " + ", ".join(f"{_gb(peak)} with {name}" for name, peak in outline.peaks.items())
    if free is None:
        return line
    fits = fitting(outline.peaks, free)
    advice = f"{fits} fits" if fits else "none of them fits: use fewer or smaller frames, more ranks, or weights in fp8 or GGUF"
    return f"{line}; of {_gb(free)} that are free here {advice}"


def _messages(outline: Plan, sent: int, once: int) -> str:
    """Return a line on what ranks send each other."""
    if len(outline.clips) == 1:
        return "messages: 0 a call of the net and rank (one rank has nobody to talk to)"
    line = f"messages: {outline.messages_a_call} a call of the net and rank, {_gb(sent)} from the busiest"
    return f"{line}; one more, of {_gb(once)}, before frames are decoded" if outline.messages_once else line


def _latents(outline: Plan) -> list[str]:
    """Return a line on how frames are packed, if they are."""
    geometry, frames = outline.geometry, outline.job.frames
    if geometry.frames_per_latent == 1:
        return []
    latents = geometry.latents(frames)
    past = len(geometry.frames_of(range(latents))) - frames
    cut = f"; {frames + past} frames are made and the last {past} cut off, so that {frames + past} would cost the same"
    return [f"{latents} latents: the first holds 1 frame, each other one {geometry.frames_per_latent}{cut if past else ''}"]


def _sight(outline: Plan, frame: int) -> list[str]:
    """Return lines on what a frame attends to."""
    sight, geometry, scope = outline.sight(frame), outline.geometry, outline.job.scope
    near, spread = (len({geometry.latent_of(each) for each in seen}) for seen in (sight.near, sight.spread))
    packed = geometry.frames_per_latent > 1
    where = f" (in the latent of frames {sight.latent.start} to {sight.latent.stop - 1})" if len(sight.latent) > 1 else ""
    lines = [
        f"frame {frame}{where} attends to {len(sight.near)} frames{f' ({near} latents)' if packed else ''} near it and "
        f"{len(sight.spread)}{f' ({spread} latents)' if packed else ''} more over the whole video; {sight.fetched} of them are on "
        "other ranks"
    ]
    if scope.full_windows:
        lines.append("windows are full: at the ends, and around global frames, a frame attends to as many as elsewhere")
    if scope.rotate:
        lines.append("global frames but the first move on by one latent a step: these are those of the first step")
    return lines


def _host_memory(outline: Plan) -> list[str]:
    """Return a line on what waits in host memory for a rank's device, if anything may."""
    tuning, memory = outline.job.tuning, outline.memory
    waits = [f"{_gb(memory.offloaded)} of weights"] if memory.offloaded else []
    waits += [f"{_gb(memory.before_loras)} of weights as they were before LoRAs"] if memory.before_loras else []
    if tuning.park_skips != "never" and memory.skips:
        when = "" if tuning.park_skips == "always" else ", if a GPU's memory is short"
        waits.append(f"{_gb(memory.skips)} of skip tensors{when}")
    return [f"in host memory a rank: about {' and '.join(waits)}"] if waits else []


def _gb(count: int) -> str:
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
