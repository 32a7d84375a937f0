"""Where the pack lies, and the models that it brings."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUNDLED = ROOT / "assets" / "moving-shapes"
BUNDLED_WAN = ROOT / "assets" / "moving-shapes-wan"
BUNDLED_WAN_IMAGES = ROOT / "assets" / "moving-shapes-wan-images"
