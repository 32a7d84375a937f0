"""Keyframes: IMAGE and where its pictures stand in the video, one node after the other."""

import torch
from comfy_api.latest import io

from ..parallel.job.errors import JobRefused
from ..parallel.job.job import Job, Keyframe, checked
from ..parallel.job.moment import first_frame, is_moment
from . import border, host
from .sockets import CATEGORY, Keyframes, PlacedPictures
from .widgets import check_widgets, checks_widgets, keyframes_input

SPREAD = "spread"


class KeyframesNode(io.ComfyNode):
    """Say which pictures the video shows, and when."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoInfinityKeyframes",
            display_name="Keyframes",
            category=CATEGORY,
            description="Pictures that the video shows at given frames: a start, an end, any between. All frames of the video see them.",
            search_aliases=["image to video", "img2vid", "i2v", "start image", "first last frame", "flf2v", "extend video"],
            inputs=[
                io.Image.Input("images", tooltip="One picture, several, or the frames of a video to go on from."),
                io.String.Input(
                    "at",
                    default="0",
                    tooltip="Where the picture stands: a frame, seconds (`1.5s`) or `last`. Of several pictures: one place for each, "
                    "with commas between; `spread` for evenly over the video; or one place, from where they stand one after the other.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of the steps for which they hold, from the first on: below 1 the video may leave them.",
                ),
                keyframes_input(),
            ],
            outputs=[
                Keyframes.Output("keyframes", tooltip="For Clip-Parallel Sampler, Video Plan, or another Keyframes node.")
            ],
        )

    @classmethod
    def validate_inputs(cls, at: str | None, strength: float | None) -> bool | str:
        """Refuse what can't be run, before anything runs; None comes over a link, and is seen when the node runs."""
        typed = {"at": at, "strength": strength}
        return host.refused(lambda: _check(cls, {name: value for name, value in typed.items() if value is not None}))

    @classmethod
    @checks_widgets
    def execute(cls, images, at: str, strength: float, keyframes: tuple[PlacedPictures, ...] = ()) -> io.NodeOutput:
        pictures, moments = border.frames_of("images", images), read_moments(at)
        if moments != [SPREAD] and len(moments) not in (1, len(pictures)):
            raise JobRefused(
                f"at: wanted one place for each of {len(pictures)} pictures, or one for all, got {len(moments)}: {at!r:.80}"
            )
        return io.NodeOutput((*keyframes, PlacedPictures(pictures, tuple(moments), strength)))


def _check(node: type[io.ComfyNode], typed: dict) -> None:
    check_widgets(node, typed)
    if "at" in typed:
        read_moments(typed["at"])


def read_moments(text: str) -> list[str]:
    """Return the places that a text names; raise JobRefused, which names the widget."""
    moments = [each.strip().lower() for each in text.split(",")]
    wrong = next((each for each in moments if not is_moment(each)), None)
    if wrong is not None and moments != [SPREAD]:
        raise JobRefused(
            f"at: wanted a frame, seconds such as 1.5s, or last, with commas between several, or {SPREAD}, got {wrong!r:.80}"
        )
    return moments


def with_keyframes(job: Job, placed: tuple[PlacedPictures, ...]) -> tuple[Job, list[torch.Tensor]]:
    """Return a job with keyframes by their frame, and the pictures of each, of their own size; raise JobRefused."""
    found = [each for pictures in placed for each in _placed_in(job, pictures)]
    in_order = sorted(found, key=lambda each: each[0].frame)
    return job.with_keyframes(tuple(keyframe for keyframe, _ in in_order)), [pictures for _, pictures in in_order]


def pixels_of(pictures: list[torch.Tensor], job: Job) -> torch.Tensor | None:
    """Return pictures in a job's size, (pictures, H, W, 3), None if there are none."""
    if not pictures:
        return None
    return torch.cat([host.resize(each, height=job.height, width=job.width) for each in pictures])


def _placed_in(job: Job, placed: PlacedPictures) -> list[tuple[Keyframe, torch.Tensor]]:
    pictures, count = placed.pictures, len(placed.pictures)
    if placed.moments == (SPREAD,):
        frames = torch.linspace(0, job.frames - 1, count).round().long().tolist()
    elif len(placed.moments) == count:
        frames = [first_frame(moment, 1, frames=job.frames, fps=job.fps) for moment in placed.moments]
    else:
        frame = first_frame(placed.moments[0], count, frames=job.frames, fps=job.fps)
        return [(checked(Keyframe, frame=frame, count=count, strength=placed.strength, keep=True), pictures)]
    return [
        (checked(Keyframe, frame=frame, strength=placed.strength), pictures[number : number + 1])
        for number, frame in enumerate(frames)
    ]
