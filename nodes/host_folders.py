"""What lies in ComfyUI's folders: models, files of weights, LoRAs, and room for files that pass away. Beside host.py, which asks for all else."""

import os
import uuid
from pathlib import Path

import folder_paths

from ..parallel.families import folder
from ..parallel.families.single_file import Role
from . import folders

ASSETS = Path(__file__).resolve().parents[1] / "assets"
BUNDLED = {
    f"{name} (bundled)": str(ASSETS / name) for name in ("moving-shapes", "moving-shapes-wan", "moving-shapes-wan-images")
}  # the first is the default
# What of a model lies in which of ComfyUI's folders; those of GGUF are of a pack that others may have.
FOLDERS: dict[Role, tuple[str, ...]] = {
    "model": ("diffusion_models", "unet_gguf", "checkpoints"),
    "vae": ("vae", "checkpoints"),
    "text_encoder": ("text_encoders", "clip_gguf", "checkpoints"),
    "clip_vision": ("clip_vision",),
}

_names: dict[str, str] = {}  # of model folders by path, as they were listed last: a run need not look for them again
_roles: dict[str, tuple[tuple[int, int], frozenset[Role]]] = {}  # of files by path, with their size and time then


def model_folders() -> dict[str, str]:
    """Return the model folders that ComfyUI knows, by the names that users choose from; the bundled ones are always there."""
    found = dict(BUNDLED)
    for root in folder_paths.get_folder_paths("diffusers"):
        found |= {name: place for name, place in folders.named(root).items() if name not in found}
    _names.update({place: name for name, place in reversed(found.items())})  # a folder that has two goes by the first
    return found


def weight_files(role: Role) -> dict[str, str]:
    """Return the files of ComfyUI's folders that can be a part of a model, by the names that users choose from.

    They are recognised by what they hold; each is read anew only when it has changed.
    """
    found: dict[str, str] = {}
    for kind in FOLDERS[role]:
        known = folder_paths.folder_names_and_paths.get(kind)
        for root in known[0] if known else ():
            listed = folders.weights(root)
            found |= {name: file for name, file in listed.items() if name not in found and role in _roles_in(file)}
    _names.update({file: name for name, file in found.items()})
    return found


def loras() -> dict[str, str]:
    """Return the files of ComfyUI's folders for LoRAs, by the names that users choose from."""
    found: dict[str, str] = {}
    for root in folder_paths.get_folder_paths("loras"):
        found |= {name: file for name, file in folders.weights(root).items() if name not in found}
    return found


def _roles_in(file: str) -> frozenset[Role]:
    try:
        stat = os.stat(file)
    except OSError:
        return frozenset()
    before = _roles.get(file)
    if before is None or before[0] != (stat.st_size, stat.st_mtime_ns):
        _roles[file] = before = ((stat.st_size, stat.st_mtime_ns), folder.roles_in(file))
    return before[1]


def temp_file(name: str, suffix: str) -> Path:
    """Return the path of a new file in ComfyUI's temp folder, which it empties when it starts and ends."""
    place = Path(folder_paths.get_temp_directory())
    place.mkdir(parents=True, exist_ok=True)
    return place / f"{name}-{uuid.uuid4().hex}{suffix}"


def model_name(path: str) -> str:
    """Return the name that a user chose a model folder by, among those that were listed last."""
    return _names.get(path) or Path(path).name
