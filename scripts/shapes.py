"""Moving shapes: the procedural clips that the bundled model is trained on, and the truth that benchmarks measure against."""

import math
from dataclasses import dataclass

import torch

SIZE = 64  # pixels, height and width of a frame
PERIOD = 24  # frames of one orbit or one bounce there and back: every scene is a loop

COLOURS = {
    "red": (225, 45, 45),
    "green": (45, 185, 70),
    "blue": (60, 90, 235),
    "yellow": (240, 220, 50),
    "purple": (185, 60, 205),
    "cyan": (50, 210, 215),
}
BACKGROUNDS = {"black": (12, 12, 12), "gray": (120, 120, 120), "white": (244, 244, 244), "brown": (100, 66, 38)}
SHAPES = ("circle", "square", "triangle", "ring")
MOTIONS = ("orbiting clockwise", "orbiting counterclockwise", "bouncing horizontally", "bouncing vertically")


@dataclass(frozen=True)
class Scene:
    """One moving shape. Lengths are in pixels, `phase` is a share of the period in [0, 1)."""

    shape: str
    colour: str
    background: str
    motion: str
    radius: float = 11.5
    travel: float = 15.0
    centre: tuple[float, float] = (32.0, 32.0)
    phase: float = 0.0

    @property
    def caption(self) -> str:
        return f"a {self.colour} {self.shape} {self.motion} on a {self.background} background"


def all_kinds() -> list[tuple[str, str, str, str]]:
    """Return every (shape, colour, background, motion), 384 in all, in a fixed order."""
    return [(s, c, b, m) for s in SHAPES for c in COLOURS for b in BACKGROUNDS for m in MOTIONS]


def draw_scene(kind: tuple[str, str, str, str], generator: torch.Generator) -> Scene:
    """Draw a scene of one kind: size, place, travel and phase are random."""
    u = torch.rand(5, generator=generator).tolist()
    shape, colour, background, motion = kind
    bounce = motion.startswith("bouncing")
    return Scene(
        *(shape, colour, background, motion),
        radius=10.5 + 2 * u[0],
        travel=(16.5 if bounce else 14.5) + u[1],
        centre=(31 + 2 * u[2], 31 + 2 * u[4]),
        phase=u[3],
    )


def path(scene: Scene, frames: torch.Tensor) -> torch.Tensor:
    """Return the shape's centre (x, y) at each frame number, in pixels, shape (F, 2)."""
    turn = frames.double() / PERIOD + scene.phase
    x0, y0 = scene.centre
    if scene.motion.startswith("orbiting"):
        # y points down, so a growing angle turns clockwise to the eye.
        angle = 2 * math.pi * turn * (1 if scene.motion == "orbiting clockwise" else -1)
        offset = torch.stack([angle.cos(), angle.sin()], dim=1) * scene.travel
    else:
        swing = (1 - 4 * (turn % 1 - 0.5).abs()) * scene.travel
        rest = torch.zeros_like(swing)
        offset = torch.stack([swing, rest] if scene.motion == "bouncing horizontally" else [rest, swing], dim=1)
    return (offset + torch.tensor([x0, y0], dtype=torch.float64)).float()


def distance(shape: str, radius: float | torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the signed distance in pixels to a shape's edge, negative inside."""
    if shape == "circle":
        return (x * x + y * y).sqrt() - radius
    if shape == "ring":
        return ((x * x + y * y).sqrt() - 0.78 * radius).abs() - 0.24 * radius
    if shape == "square":
        return torch.maximum(x.abs(), y.abs()) - 0.88 * radius
    # An equilateral triangle, point up: the largest of three half-planes.
    sides = [y - 0.55 * radius]
    sides += [sign * x * math.cos(math.pi / 6) - y * 0.5 - 0.55 * radius for sign in (-1, 1)]
    return torch.stack(sides).amax(0)


def render(scene: Scene, frames: torch.Tensor) -> torch.Tensor:
    """Render frame numbers (F,) as float32 (F, 3, 64, 64) in [0, 1], edges anti-aliased over one pixel."""
    return render_all([scene], frames)[0]


def render_all(scenes: list[Scene], frames: torch.Tensor, device: torch.device | str = "cpu") -> torch.Tensor:
    """Render the same frame numbers (F,) of some scenes on a device, float32 (B, F, 3, 64, 64) in [0, 1]."""
    centres = torch.stack([path(scene, frames) for scene in scenes]).to(device)
    radii = torch.tensor([scene.radius for scene in scenes], device=device).view(-1, 1, 1, 1)
    grid = torch.arange(SIZE, device=device) + 0.5
    x, y = torch.broadcast_tensors(grid - centres[:, :, 0, None, None], grid[:, None] - centres[:, :, 1, None, None])
    cover = torch.empty_like(x)
    for shape in SHAPES:
        of_shape = torch.tensor(
            [place for place, scene in enumerate(scenes) if scene.shape == shape], dtype=torch.long, device=device
        )
        edge = distance(shape, radii[of_shape], x[of_shape], y[of_shape])
        cover[of_shape] = (0.5 - edge).clamp(0, 1)
    cover = cover[:, :, None]
    ink = _colours([COLOURS[scene.colour] for scene in scenes], device)
    paper = _colours([BACKGROUNDS[scene.background] for scene in scenes], device)
    return cover * ink + (1 - cover) * paper


def _colours(colours: list[tuple[int, int, int]], device: torch.device | str) -> torch.Tensor:
    return torch.tensor(colours, device=device).view(-1, 1, 3, 1, 1) / 255
