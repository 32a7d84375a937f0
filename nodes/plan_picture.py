"""A plan as a picture: time from left to right; clips, one frame's scopes, and prompts below each other."""

from PIL import Image, ImageDraw, ImageFont

from ..parallel.plan import Plan, frames_of

WIDTH, LEFT, RIGHT = 1280, 120, 24
PAPER, INK, FAINT = (250, 250, 248), (40, 40, 46), (208, 208, 204)
RANKS = ((76, 114, 176), (221, 132, 82), (85, 168, 104), (196, 78, 82), (129, 114, 179), (147, 120, 96), (218, 139, 195))
NEAR, SPREAD, SELF = (44, 96, 200), (232, 138, 30), (20, 20, 24)
PROMPTS = ((206, 222, 240), (246, 222, 204), (212, 236, 214), (242, 210, 214), (226, 218, 240))
KEYFRAME = (170, 30, 90)
MARK, LEAST_MARK = (120, 120, 124), 3  # where a latent begins; pixels from one to the next
MOST_LABELS = 24  # of ranks; more of them are drawn as bars alone


def draw(outline: Plan, frame: int) -> Image.Image:
    """Return the picture of a plan, 1280 pixels wide, with keyframes, the scopes of one frame, and marks where latents begin."""
    picture = Image.new("RGB", (WIDTH, 384), PAPER)
    pen = Pen(ImageDraw.Draw(picture), outline.job.frames)
    pen.axis(24, outline.job.fps)
    for keyframe in outline.job.keyframes:
        pen.keyframe(keyframe.frame, keyframe.last, y=63)
    pen.label(84, "clips")
    for rank, frames in enumerate(outline.frames):
        name = f"rank {rank}" if len(outline.clips) <= MOST_LABELS else ""
        pen.bar((frames.start, frames.stop), (72, 112), RANKS[rank % len(RANKS)], name, (255, 255, 255))
    pen.marks([frames.start for frames in _latents(outline)], (114, 120))
    _draw_sight(pen, outline, frame)
    _draw_prompts(pen, outline)
    return picture


def _latents(outline: Plan) -> list[range]:
    """Return the frames of each latent, or none where each holds one frame."""
    if outline.geometry.frames_per_latent == 1:
        return []
    return [frames_of(range(latent, latent + 1), outline.job, outline.geometry) for latent in range(outline.clips[-1].stop)]


def _draw_sight(pen: "Pen", outline: Plan, frame: int) -> None:
    sight = outline.sight(frame)
    pen.label(148, f"frame {frame}")
    pen.bar((0, outline.job.frames), (136, 176), (236, 236, 232))
    for places, colour in ((sight.near, NEAR), (sight.spread, SPREAD), (sight.latent, SELF)):
        for place in places:
            pen.bar((place, place + 1), (136, 176), colour)
    pen.marks([frames.start for frames in _latents(outline)], (178, 184))
    own = f", in the latent of frames {sight.latent.start} to {sight.latent.stop - 1}" if len(sight.latent) > 1 else ""
    given = [(KEYFRAME, "keyframes, which all frames attend to")] if outline.job.keyframes else []
    packed = [(MARK, f"marks: latents of {outline.geometry.frames_per_latent} frames")] if _latents(outline) else []
    x = LEFT
    for colour, words in (
        (SELF, f"frame {frame}{own}"),
        (NEAR, f"local scope, {len(sight.near)} frames"),
        (SPREAD, f"global scope, {len(sight.spread)} more"),
        *packed,
        *given,
    ):
        pen.ink.rectangle((x, 188, x + 12, 200), fill=colour)
        pen.ink.text((x + 18, 186), words, fill=INK, font=pen.small)
        x += 40 + int(pen.small.getlength(words))


def _draw_prompts(pen: "Pen", outline: Plan) -> None:
    pen.label(248, "prompts")
    colours = [PROMPTS[number % len(PROMPTS)] for number in range(len(outline.job.prompts))]
    for x in range(LEFT, WIDTH - RIGHT):
        before, now, share = outline.prompts_at(min(outline.job.frames - 1, pen.frame_at(x)))
        mixed = tuple(round(a + (b - a) * share) for a, b in zip(colours[before], colours[now], strict=True))
        pen.ink.line((x, 232, x, 352), fill=mixed)
    starts = [prompt.frame for prompt in outline.job.prompts]
    for prompt, end in zip(outline.job.prompts, [*starts[1:], outline.job.frames], strict=True):
        left, right = pen.x(prompt.frame), pen.x(end)
        pen.ink.line((left, 232, left, 352), fill=INK)
        pen.ink.multiline_text((left + 6, 238), pen.wrapped(prompt.text, right - left - 12, lines=6), fill=INK, font=pen.small)


class Pen:
    """Draws in frames: knows where on the picture a frame is."""

    def __init__(self, ink: ImageDraw.ImageDraw, frames: int):
        self.ink, self.frames = ink, frames
        self.small, self.large = ImageFont.load_default(14), ImageFont.load_default(17)

    def x(self, frame: float) -> int:
        """Return where a frame begins."""
        return LEFT + round((WIDTH - LEFT - RIGHT) * frame / self.frames)

    def frame_at(self, x: int) -> int:
        """Return the frame at a place."""
        return (x - LEFT) * self.frames // (WIDTH - LEFT - RIGHT)

    def label(self, y: int, words: str) -> None:
        """Name a row."""
        self.ink.text((16, y), words, fill=INK, font=self.large)

    def bar(self, span: tuple[int, int], rows: tuple[int, int], colour, words: str = "", ink=INK) -> None:
        """Fill some frames of a row, at least a pixel wide, with words in the middle if they fit."""
        left, right = self.x(span[0]), max(self.x(span[0]) + 1, self.x(span[1]) - 1)
        self.ink.rectangle((left, rows[0], right, rows[1]), fill=colour)
        if words and self.small.getlength(words) + 4 < right - left:
            middle = ((left + right) / 2, (rows[0] + rows[1]) / 2)
            self.ink.text(middle, words, fill=ink, font=self.small, anchor="mm")

    def keyframe(self, first: int, last: int, y: int) -> None:
        """Mark a run of frames that are given: a diamond at its first and its last, and a line between them."""
        ends = [(self.x(frame) + self.x(frame + 1)) / 2 for frame in (first, last)]
        self.ink.line((ends[0], y, ends[1], y), fill=KEYFRAME, width=3)
        for x in ends:
            self.ink.polygon(((x - 7, y), (x, y - 7), (x + 7, y), (x, y + 7)), fill=KEYFRAME)

    def marks(self, frames: list[int], rows: tuple[int, int]) -> None:
        """Mark where some frames begin, if there is room between the marks to tell them apart."""
        if len(frames) * LEAST_MARK <= WIDTH - LEFT - RIGHT:
            for frame in frames:
                self.ink.line((self.x(frame), rows[0], self.x(frame), rows[1]), fill=MARK)

    def axis(self, y: int, fps: float) -> None:
        """Draw frame numbers and seconds, about ten of them."""
        step = next(s for s in (1, 2, 4, 8, 12, 24, 48, 96, 240, 480, 1200, 4800, 24_000, 120_000) if self.frames / s <= 12)
        for frame in range(0, self.frames, step):
            self.ink.line((self.x(frame), y + 32, self.x(frame), 360), fill=FAINT)
            self.ink.text((self.x(frame), y), f"{frame}", fill=INK, font=self.small, anchor="mt")
            self.ink.text((self.x(frame), y + 16), f"{frame / fps:g} s", fill=INK, font=self.small, anchor="mt")

    def wrapped(self, text: str, width: int, *, lines: int) -> str:
        """Return the text in lines that fit a width, cut with ... where they do not."""
        rows = [""]
        for word in text.split():
            longer = f"{rows[-1]} {word}".strip()
            if self.small.getlength(longer) <= width:
                rows[-1] = longer
            else:
                rows.append(word)
        rows = [row for row in rows if row]
        if any(self.small.getlength(row) > width for row in rows):
            return ""
        return "\n".join(rows[: lines - 1] + ["..."] if len(rows) > lines else rows)
