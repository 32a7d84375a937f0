"""Lay a video's frames out on one picture, clip borders marked: `python -m scripts.contact_sheet VIDEO --ranks N`."""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from parallel.cli import inits
from parallel.maths import clips

GAP = 4  # pixels around a frame
BORDER = (230, 60, 60)  # the mark on the first frame of a clip
TINTS = ((232, 238, 250), (250, 240, 226))  # behind the frames of even and odd clips


def lay_out(frames_FHWC: np.ndarray, ranks: int, *, columns: int, scale: int) -> Image.Image:
    """Return the sheet: a cell a frame, its number above it, each clip on its own tint, a bar where a clip begins."""
    frames, height, width, _ = frames_FHWC.shape
    cell = (width * scale + 2 * GAP, height * scale + 2 * GAP + 10)
    sheet = Image.new("RGB", (cell[0] * min(columns, frames), cell[1] * -(-frames // columns)), "white")
    draw = ImageDraw.Draw(sheet)
    for rank, clip in enumerate(clips.cut(frames, ranks)):
        for frame in clip:
            x, y = cell[0] * (frame % columns), cell[1] * (frame // columns)
            draw.rectangle((x, y, x + cell[0] - 1, y + cell[1] - 1), fill=TINTS[rank % 2])
            picture = Image.fromarray(frames_FHWC[frame]).resize((width * scale, height * scale), Image.Resampling.NEAREST)
            sheet.paste(picture, (x + GAP, y + GAP + 10))
            label = f"{frame}  rank {rank}" if frame == clip.start else str(frame)
            draw.text((x + GAP, y), label, fill=BORDER if frame == clip.start else "black")
            if frame == clip.start:
                draw.rectangle((x, y, x + 2, y + cell[1] - 1), fill=BORDER)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("--ranks", type=int, default=1, help="mark the clips of so many ranks")
    parser.add_argument("--columns", type=int, default=12)
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    frames = inits.read(args.video, most=10_000).numpy()
    lay_out(frames, args.ranks, columns=args.columns, scale=args.scale).save(args.output)
    print(f"{len(frames)} frames of {args.video} on {args.output}")


if __name__ == "__main__":
    main()
