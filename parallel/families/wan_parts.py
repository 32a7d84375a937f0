"""Where the parts of a Wan are whose net is in a file: in files of their own, in a checkpoint, in a folder, or in what ships with the pack."""

from collections.abc import Container
from importlib.util import find_spec
from pathlib import Path

from ..job.errors import JobRefused
from ..job.files import ModelFiles
from . import single_file, wan_files, weight_files
from .parts import Part
from .safety import check_links
from .single_file import SingleFile
from .wan_index import TIMED_CHANNELS

RELEASED = Path(__file__).parent / "wan_released"  # what no weight's shape tells
WITH_WEIGHTS = ("vae", "text_encoder", "image_encoder")
PARTS = ("vae", "text_encoder", "tokenizer", "scheduler")


def find_parts(net: SingleFile, files: ModelFiles, folder: str | None) -> dict[str, Part]:
    """Return where all parts of a model are whose net is in a file: in files of their own, else in a folder, else in what ships."""
    found: dict[str, Part] = {"transformer": net, **_in_files(net, files)}
    text = found.get("text_encoder")
    if isinstance(text, SingleFile) and wan_files.has_vocabulary(text) and not _has_tokenizer(folder):
        found["tokenizer"] = text
        if find_spec("sentencepiece") is None:
            raise JobRefused(f"text encoder {text} {single_file.NO_SENTENCEPIECE}")
    if folder is not None:
        found = {**_in_folder(Path(folder), leave_out=found), **found}
    released = RELEASED / "timed" if net.config["out_channels"] == TIMED_CHANNELS else RELEASED
    found.setdefault("scheduler", released / "scheduler")
    if "vae" not in found:
        raise JobRefused(
            f"{net} is a net alone: give its vae, too (--vae FILE, such as wan_2.1_vae.safetensors), or a folder as parts"
        )
    if text is not None and "tokenizer" not in found:
        raise JobRefused(
            f"text encoder {text} has no tokenizer ({single_file.VOCABULARY}): use ComfyUI's own umt5_xxl file, a GGUF that has one, or a "
            "folder as parts"
        )
    if "text_encoder" not in found:
        found.pop("tokenizer", None)
    return found


def _in_files(net: SingleFile, files: ModelFiles) -> dict[str, Part]:
    """Return the parts beside a net that files hold: those that were chosen, else a checkpoint that the net is in."""
    found: dict[str, Part] = {}
    if files.model_low is not None:
        second = wan_files.find_net(Path(files.model_low))
        if second is None:
            raise JobRefused(
                f"model-low {files.model_low} holds no Wan net that this version knows: give the net for low noise"
            )
        found["transformer_2"] = second
    whole = single_file.read(net.file)
    for name, file, kind, read in (
        ("vae", files.vae, "wan vae", wan_files.read_vae),
        ("text_encoder", files.text_encoder, "umt5", wan_files.read_text_encoder),
        ("image_encoder", files.clip_vision, "clip vision", wan_files.read_image_encoder),
    ):
        if file is not None:
            found[name] = read(Path(file))
        elif single_file.prefix_of(whole, kind) is not None:
            found[name] = read(net.file)
    return found


def _in_folder(folder: Path, *, leave_out: Container[str]) -> dict[str, Part]:
    """Return the parts that a folder in diffusers format has; raise JobRefused if one is not safe, or has no weights to read."""
    found: dict[str, Part] = {}
    for name in (*PARTS, "image_encoder", "image_processor"):
        place = folder / name
        if name not in leave_out and place.is_dir():
            check_links(folder, place)
            if name in WITH_WEIGHTS:
                weight_files.check(place)
            found[name] = place
    return found


def _has_tokenizer(folder: str | None) -> bool:
    return folder is not None and (Path(folder) / "tokenizer").is_dir()
