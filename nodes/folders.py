"""The model folders and the files of weights below a root, by names that people can read and that stay. It asks ComfyUI for nothing."""

import os
from collections.abc import Iterator
from pathlib import Path

WHOLE = ("model_index.json", "unet/config.json", "transformer/config.json")
WEIGHTS = (".safetensors", ".sft", ".gguf")
NET_ALONE = "config.json"
HUB = "models--"  # begins the name of a repository in a hub's cache: models--ORGANISATION--NAME/snapshots/REVISION


def named(root: str) -> dict[str, str]:
    """Return the model folders below a root: a folder's name, `group/name` below others, `organisation/name` of a hub's cache.

    What can't be read is left out. Where a hub's cache has several revisions, those that are not its `main` end in `@` and a
    few of their letters.
    """
    found: dict[str, str] = {}
    for folder in _walk(Path(root)):
        found.setdefault(_name(folder, Path(root)), str(folder))
    return found


def weights(root: str) -> dict[str, str]:
    """Return the files of weights below a root, by their paths below it, in the order of their names."""
    seen, found = set(), {}
    for place, inner, names in os.walk(root, followlinks=True):
        real = os.path.realpath(place)
        inner[:] = [] if real in seen else sorted(name for name in inner if not name.startswith("."))
        seen.add(real)
        for name in sorted(names):
            if name.lower().endswith(WEIGHTS):
                found[os.path.relpath(os.path.join(place, name), root).replace(os.sep, "/")] = os.path.join(place, name)
    return found


def _walk(root: Path) -> Iterator[Path]:
    """Yield the model folders below a root, or the root if it is one, in the order of their names.

    Links are followed, and each folder is entered once.
    """
    seen = set()
    for place, inner, _ in os.walk(root, followlinks=True):
        folder, real = Path(place), os.path.realpath(place)
        if _is_model(folder, root):
            inner.clear()  # its parts are no models of their own
            yield folder
        elif real in seen:
            inner.clear()
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))


def _is_model(folder: Path, root: Path) -> bool:
    """Say whether a folder is a model; deeper down, where parts of models may lie about, a net alone is none."""
    alone = folder.parent == root or folder.parent.name == "snapshots"
    marks = (*WHOLE, NET_ALONE) if alone else WHOLE
    return any(os.path.isfile(folder / mark) for mark in marks)  # unlike Path.is_file it never raises


def _name(folder: Path, root: Path) -> str:
    if folder == root:
        return root.name
    repository = folder.parents[1]
    if folder.parent.name != "snapshots" or not repository.name.startswith(HUB):
        return folder.relative_to(root).as_posix()
    plain = repository.name.removeprefix(HUB).replace("--", "/", 1)
    above = repository.parent.relative_to(root) if root in repository.parents else Path()  # the root may lie in the cache
    name = (above / plain).as_posix()
    return name if folder.name == _main(repository) else f"{name}@{folder.name[:8]}"


def _main(repository: Path) -> str:
    """Return the revision that a repository in a hub's cache is of: its `main`, else the first."""
    try:
        return (repository / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return min(os.listdir(repository / "snapshots"))
