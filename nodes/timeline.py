"""Prompt Timeline: what is seen when, as text."""

from comfy_api.latest import io

from ..parallel.job import timeline
from . import host
from .sockets import CATEGORY, Timeline, TimelineText
from .widgets import checks_widgets

PROMPT = "a red circle orbiting clockwise on a gray background"
EXAMPLE = f"0: {PROMPT}\n48: a blue triangle bouncing horizontally on a gray background"


class PromptTimeline(io.ComfyNode):
    """Write a prompt a line, with the frame or second that it is seen from."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoInfinityPromptTimeline",
            display_name="Prompt Timeline",
            category=CATEGORY,
            description="Prompts pinned to frames or seconds, one a line: `0: a cat wakes`, `4.5s: it jumps`.",
            search_aliases=["prompt schedule", "prompt travel", "timeline"],
            inputs=[
                io.String.Input(
                    "timeline",
                    multiline=True,
                    default=EXAMPLE,
                    dynamic_prompts=True,
                    tooltip="A line each: FRAME: prompt, SECONDSs: prompt, or a clock time, 1:30 prompt. The first one starts at 0. "
                    "Lines with # are skipped. Weights: (word:1.2).",
                ),
                io.Int.Input(
                    "fade", default=4, min=0, max=4096, tooltip="Frames over which a prompt takes over from the one before."
                ),
                io.String.Input(
                    "negative",
                    multiline=True,
                    default="",
                    dynamic_prompts=True,
                    tooltip="What is not to be seen, in all frames.",
                ),
            ],
            outputs=[Timeline.Output("timeline", tooltip="What is seen when; for the sampler.")],
        )

    @classmethod
    def validate_inputs(cls, timeline: str | None) -> bool | str:
        """Refuse a line that is none, and say which."""
        return timeline is None or host.refused(lambda: _parse(timeline))

    @classmethod
    @checks_widgets
    def execute(cls, timeline: str, fade: int, negative: str) -> io.NodeOutput:
        _parse(timeline)
        return io.NodeOutput(TimelineText(text=timeline, fade=fade, negative=negative))


def _parse(text: str) -> None:
    timeline.check(text)
