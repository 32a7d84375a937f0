"""Read a moving-shapes clip back: where the shape is, and which shape, colour, background and motion it shows.

Everything is measured from pixels with the renderer's own palette and distances; nothing is learnt.
"""

from dataclasses import dataclass

import torch

from scripts.shapes import BACKGROUNDS, COLOURS, SHAPES, SIZE, distance

UNCLEAR = "unclear"
FAR = 0.4  # of the colours' cube, a side of 1: no colour of the palette
ODD = 0.4  # of a silhouette's area that is missing or too much: no shape of ours
RADII = torch.arange(9.0, 14.1, 0.5)  # pixels; scenes are drawn with 10.5 to 12.5


@dataclass(frozen=True)
class Track:
    """What a clip shows, UNCLEAR where it is nothing that is drawn. `centres` (F, 2) are x and y in pixels, NaN without a shape."""

    shape: str
    colour: str
    background: str
    motion: str
    centres: torch.Tensor
    seen: torch.Tensor  # bool (F,)


def track(frames_FHWC: torch.Tensor) -> Track:
    """Return what frames in [0, 1] show."""
    border = torch.cat([frames_FHWC[:, :2].flatten(0, 2), frames_FHWC[:, -2:].flatten(0, 2)])
    paper = border.median(0).values
    apart = (frames_FHWC - paper).norm(dim=-1)
    seen = (apart > 0.2).flatten(1).sum(1) >= 20
    ink = _ink(frames_FHWC, apart)
    cover = ((frames_FHWC - paper) @ (ink - paper) / (ink - paper).square().sum().clamp(min=1e-6)).clamp(0, 1)
    cover = torch.where(cover > 0.25, cover, 0)  # what is left of the background's texture must not pull the centre
    centres = _centres(cover)
    centres[~seen] = torch.nan
    return Track(
        shape=_shape(cover[seen], centres[seen]),
        colour=_nearest(ink, COLOURS),
        background=_nearest(paper, BACKGROUNDS),
        motion=_motion(centres[seen]),
        centres=centres,
        seen=seen,
    )


def _ink(frames_FHWC: torch.Tensor, apart: torch.Tensor) -> torch.Tensor:
    """Return the shape's colour: the median of the pixels that are furthest from the background."""
    strongest = apart.flatten().topk(60 * len(frames_FHWC)).indices
    return frames_FHWC.flatten(0, 2)[strongest].median(0).values


def _nearest(colour: torch.Tensor, palette: dict[str, tuple[int, int, int]]) -> str:
    far = {name: (torch.tensor(parts) / 255 - colour).norm().item() for name, parts in palette.items()}
    name = min(far, key=far.__getitem__)
    return name if far[name] < FAR else UNCLEAR


def _centres(cover_FHW: torch.Tensor) -> torch.Tensor:
    grid = torch.arange(SIZE) + 0.5
    mass = cover_FHW.sum((1, 2)).clamp(min=1e-6)
    return torch.stack([(cover_FHW.sum(1) * grid).sum(1) / mass, (cover_FHW.sum(2) * grid).sum(1) / mass], dim=1)


def _shape(cover_FHW: torch.Tensor, centres: torch.Tensor) -> str:
    """Return the shape whose rendered silhouette, at the centre found and its best radius, lies nearest to the clip's."""
    grid = torch.arange(SIZE) + 0.5
    x, y = grid[None, None, :] - centres[:, 0, None, None], grid[None, :, None] - centres[:, 1, None, None]
    x, y = torch.broadcast_tensors(x, y)

    def error(shape: str) -> float:
        silhouettes = ((0.5 - distance(shape, radius, x, y)).clamp(0, 1) for radius in RADII.tolist())
        return min(((silhouette - cover_FHW).abs().mean() / silhouette.mean()).item() for silhouette in silhouettes)

    if not len(centres):
        return "none"
    errors = {shape: error(shape) for shape in SHAPES}
    shape = min(errors, key=errors.__getitem__)
    return shape if errors[shape] < ODD else UNCLEAR


def _motion(centres: torch.Tensor) -> str:
    """Return the kind of motion: a bounce moves along one axis, an orbit turns one way."""
    if len(centres) < 4:
        return "none"
    around = centres - centres.mean(0)
    wide, high = around.square().mean(0).tolist()
    if max(wide, high) < 4:
        return "still"
    if min(wide, high) < 0.15 * max(wide, high):
        return "bouncing horizontally" if wide > high else "bouncing vertically"
    step = centres[1:] - centres[:-1]
    turn = (around[:-1, 0] * step[:, 1] - around[:-1, 1] * step[:, 0]).sum()
    return "orbiting clockwise" if turn > 0 else "orbiting counterclockwise"  # y points down
