"""Draw the pack's pictures: icon, banner, templates' cards, and, from `make demo`'s video, the README's film and thumbnails.

`python -m scripts.draw_pictures demo/video.mp4` (without the video: icon, banner and cards only). `--thumbnail` and `--plan` draw what
the shared workflows make in ComfyUI: the template's picture, and the plan on the help pages.
"""

import argparse
import math
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from parallel.cli import inits

ROOT = Path(__file__).resolve().parents[1]
CLIPS = ((76, 114, 176), (221, 132, 82), (85, 168, 104), (196, 78, 82))  # a colour a rank, as in the Video Plan
NIGHT = (24, 26, 32)
CARDS = {  # of the templates that make nothing without files which are not in the pack: what each starts from
    "wan22_text_to_long_video": "text to long video",
    "wan22_image_to_long_video": "image to long video",
    "wan22_keyframes": "keyframes",
    "wan22_refine_video": "larger and finer",
}
FINE = 4  # pictures are drawn so much larger, for smooth edges


def lemniscate(size: tuple[int, int], width: float, thick: int) -> Image.Image:
    """Return a closed loop cut into clips, a colour each: the pack's sign."""
    picture = Image.new("RGB", (size[0] * FINE, size[1] * FINE), NIGHT)
    pen = ImageDraw.Draw(picture)
    for step in range(2400):
        turn = 2 * math.pi * step / 2400 + math.pi / 4
        scale = width * FINE / (1 + math.sin(turn) ** 2)
        x = picture.width / 2 + scale * math.cos(turn)
        y = picture.height / 2 + scale * math.sin(turn) * math.cos(turn) * 1.25
        r = thick * FINE / 2
        pen.ellipse((x - r, y - r, x + r, y + r), fill=CLIPS[step * len(CLIPS) // 2400])
    return picture.resize(size, Image.Resampling.LANCZOS)


def banner() -> Image.Image:
    """Return the registry's banner, 1260 x 540."""
    picture = Image.new("RGB", (1260, 540), NIGHT)
    picture.paste(lemniscate((520, 500), 200, 44), (10, 20))
    pen = ImageDraw.Draw(picture)
    pen.text((560, 170), "Video Infinity", fill=(245, 245, 240), font=ImageFont.load_default(84))
    pen.text((564, 280), "long videos on many GPUs, without a seam", fill=(200, 202, 208), font=ImageFont.load_default(32))
    pen.text((564, 326), "one rank or eight: the same video", fill=(150, 154, 164), font=ImageFont.load_default(32))
    return picture


def card(words: str) -> Image.Image:
    """Return the thumbnail of a template of Wan 2.2 14B, 390 x 390: the pack's sign, and not a video that it has not made."""
    picture = Image.new("RGB", (390, 390), NIGHT)
    picture.paste(lemniscate((390, 240), 150, 34), (0, 0))
    pen = ImageDraw.Draw(picture)
    pen.text((195, 270), words, fill=(245, 245, 240), font=ImageFont.load_default(34), anchor="mm")
    pen.text((195, 325), "Wan 2.2 14B", fill=(200, 202, 208), font=ImageFont.load_default(26), anchor="mm")
    return picture


def frames_of(video: Path) -> list[Image.Image]:
    """Return a video's frames."""
    return [Image.fromarray(frame) for frame in inits.read(video, most=10_000).numpy()]


def thumbnail(frames: list[Image.Image], side: int = 3) -> Image.Image:
    """Return a square of frames from all over a video, 390 x 390."""
    cell = 390 // side
    picture = Image.new("RGB", (390, 390), NIGHT)
    for place in range(side * side):
        frame = frames[place * (len(frames) - 1) // max(1, side * side - 1)]
        tile = frame.resize((cell - 4, cell - 4), Image.Resampling.LANCZOS)
        picture.paste(tile, (place % side * cell + 2, place // side * cell + 2))
    return picture


def draw_plan(plan: Image.Image) -> None:
    """Draw what *plan_only* makes: whole for the help pages, and the square about its frame for the template browser."""
    plan.save(ROOT / "web" / "docs" / "video_plan.png", optimize=True)
    plan.crop((420, 0, 804, 384)).save(ROOT / "workflows" / "plan_only.jpg", quality=92)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, nargs="?", help="what `make demo` made")
    parser.add_argument("--thumbnail", type=Path, help="draw only the thumbnail of this video, into this .jpg")
    parser.add_argument("--plan", type=Path, help="draw only what is made of this picture, which the template plan_only shows")
    args = parser.parse_args()
    if args.plan:
        draw_plan(Image.open(args.plan).convert("RGB"))
        return
    if args.thumbnail:
        thumbnail(frames_of(args.video)).save(args.thumbnail, quality=88)
        return
    lemniscate((400, 400), 160, 40).save(ROOT / "docs" / "icon.png", optimize=True)
    banner().save(ROOT / "docs" / "banner.png", optimize=True)
    for name, words in CARDS.items():
        card(words).save(ROOT / "workflows" / f"{name}.jpg", quality=80)
    if args.video:
        film = [frame.resize((256, 256), Image.Resampling.BICUBIC) for frame in frames_of(args.video)]
        film[0].save(ROOT / "docs" / "demo.webp", save_all=True, append_images=film[1:], duration=100, loop=0, quality=80)


if __name__ == "__main__":
    main()
