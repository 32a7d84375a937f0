"""Where the pack lies, and the model that it brings."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUNDLED = ROOT / "assets" / "moving-shapes"
