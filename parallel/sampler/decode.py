"""Decode: the clip's latents -> its frames, a few at a time, straight into the shared block."""

import time
from collections.abc import Callable, Iterable, Sequence

import torch

from ..comm.fetch import fetch
from ..job.errors import Stopped
from ..layers.view import View
from ..maths import clips
from ..models.model import Model
from ..wire.snapshot import Snapshot
from .finite import is_finite, overflowed
from .given import Given

TIME = 2  # of latents (1, C, F, h, w)
ROOM_SECONDS = 0.005  # between two looks at whether the host has taken frames


def with_context(latents_BCFHW: torch.Tensor, view: View, reach: int) -> torch.Tensor:
    """Return the clip's latents behind those that its decode depends on, which other ranks have. Collective.

    At the beginning of the video there are fewer; with `loop`, too: a VAE that sees what came before begins with it.
    """
    if reach == 0:
        return latents_BCFHW
    route = view.route([tuple(clips.before(clip, reach)) for clip in view.clips])
    arrived, _ = fetch(latents_BCFHW, TIME, route, view.group).wait()
    return torch.cat([arrived, latents_BCFHW], dim=TIME)


def decode_clip(
    model: Model,
    latents_BCFHW: torch.Tensor,
    out_THWC: torch.Tensor,
    view: View,
    *,
    kept: Given | None = None,
    snapshot: Snapshot | None,
    most_held: int | None = None,
    report: Callable[[int, int], None],
    stopping: Callable[[], bool],
) -> None:
    """Write those frames of the clip that no rank has decoded before, float32 in [0, 1], into the whole video's.

    The latents end with the clip's own; frames that are `kept` are written as they were given. With `most_held` it waits while the
    host has yet to take so many. Raises Overflowed, and writes nothing, where the VAE's numbers are not finite; Stopped.
    """
    missing = list(view.frames) if snapshot is None else snapshot.missing(view.frames)
    done = len(view.frames) - len(missing)
    report(done, len(view.frames))
    wanted = runs(map(model.folder.geometry.latent_of, missing))
    first = view.clip.stop - latents_BCFHW.shape[TIME]
    held: list[int] = []
    for frames, pictures_FCHW in model.decode(latents_BCFHW, first, wanted):
        if not is_finite(pictures_FCHW):
            raise overflowed(model.dtype, "while the VAE decoded")
        within = range(frames.start, min(frames.stop, view.frames.stop))
        if snapshot is not None and most_held is not None:
            held = [*wait_for_room(snapshot, held, most_held, stopping), *within]
        write_frames(pictures_FCHW[: len(within)], out_THWC, within)
        for frame in within:
            if kept is not None and frame in kept.rows:
                out_THWC[frame] = kept.picture(frame)
        if snapshot is not None:
            snapshot.mark_decoded(list(within))
        done += len(within)
        report(min(done, len(view.frames)), len(view.frames))
        if stopping():  # nobody waits for anybody in this phase, so a rank may stop alone
            raise Stopped("stopped while decoding")


def wait_for_room(snapshot: Snapshot, held: list[int], most: int, stopping: Callable[[], bool]) -> list[int]:
    """Wait until fewer than `most` of some decoded frames are still in their block; return those. Raises Stopped."""
    held = snapshot.held(held)
    while len(held) >= most:
        if stopping():
            raise Stopped("stopped while decoding")
        time.sleep(ROOM_SECONDS)
        held = snapshot.held(held)
    return held


def runs(numbers: Iterable[int]) -> list[range]:
    """Return ascending numbers, repeats allowed, as ranges of consecutive ones."""
    found: list[range] = []
    for number in numbers:
        if found and number <= found[-1].stop:
            found[-1] = range(found[-1].start, max(found[-1].stop, number + 1))
        else:
            found.append(range(number, number + 1))
    return found


def write_frames(images_FCHW: torch.Tensor, out_FHWC: torch.Tensor, places: Sequence[int]) -> None:
    """Write what a VAE decoded, in [-1, 1], as frames in [0, 1] to some places."""
    for image, place in zip(images_FCHW, places, strict=True):  # a frame at a time stays in a cache: three times as fast
        out_HWC = out_FHWC[place]
        for channel, plane in enumerate(image.float().cpu()):
            torch.add(0.5, plane, alpha=0.5, out=out_HWC[..., channel])  # in place: half as long again as through a copy
        out_HWC.clamp_(0, 1)
