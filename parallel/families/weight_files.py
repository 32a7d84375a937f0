"""Which files hold a part's weights, in all forms that diffusers and transformers store them in: safetensors alone."""

import re
from collections import Counter
from pathlib import Path

from ..job.errors import JobRefused
from .safety import read_config, weight_count, weight_counts

# How diffusers (`diffusion_pytorch_model`) and transformers (`model`) name the weights of a part, whole or as an index of
# shards, each of any variant; the third is how diffusers named the index of a variant until 0.31.
STEMS = {"text_encoder": "model", "image_encoder": "model"}
_WHOLE = re.compile(r"(?:\.(?P<variant>[^.]+))?\.safetensors")
_INDEX = re.compile(r"\.safetensors(?:\.(?P<old>[^.]+))?\.index(?:\.(?P<variant>[^.]+))?\.json")
_SHARD = re.compile(r".*-\d+-of-\d+\.safetensors")
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


def find(part: Path) -> list[Path]:
    """Return the files of a part's weights, as diffusers and transformers find them; raise JobRefused if one is missing.

    Weights of no variant come first, then those of `fp16`, then of any other.
    """
    whole, indices = _stored(part, _WHOLE), _stored(part, _INDEX)
    kind = variant(part)
    if kind in indices and not (kind in whole and part.name in STEMS):  # transformers takes the whole file of the two
        return _shards(indices[kind])
    return [whole[kind]] if kind in whole else []


def variant(part: Path) -> str | None:
    """Return of which variant a part's weights are: what `from_pretrained` wants to be told."""
    kinds = {*_stored(part, _WHOLE), *_stored(part, _INDEX)}
    return min(kinds, key=lambda kind: (kind is not None, kind != "fp16", kind), default=None)


def _stored(part: Path, pattern: re.Pattern) -> dict[str | None, Path]:
    """Return the files of a part whose names go on behind the stem as a pattern says, by variant."""
    stem = STEMS.get(part.name, "diffusion_pytorch_model")
    rests = {file: file.name.removeprefix(stem) for file in part.iterdir() if file.name.startswith(stem)}
    found = {file: pattern.fullmatch(rest) for file, rest in rests.items() if not _SHARD.fullmatch(rest)}
    return {match.groupdict().get("old") or match["variant"]: file for file, match in found.items() if match}


def _shards(index: Path) -> list[Path]:
    places = read_config(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise JobRefused(f"{index} has no weight_map: get the file again")
    names = sorted({str(name) for name in places.values()})
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise JobRefused(f"{index} names {name}: wanted safetensors files beside it: get the folder again")
        if not (index.parent / name).is_file():
            raise JobRefused(f"{index.parent} lacks {name}, which {index.name} names: get that file, too")
    return [index.parent / name for name in names]


def count_numbers(part: Path) -> int:
    """Return how many numbers a part's weights hold, from the headers of its files; raise JobRefused if one is broken."""
    return sum(map(weight_count, find(part)))


def count_blocks(part: Path, pattern: re.Pattern) -> list[int]:
    """Return how many numbers each block of a part holds, from the headers of its files; a pattern finds a block's name in a weight's."""
    found: Counter[str] = Counter()
    for name, count in (item for file in find(part) for item in weight_counts(file).items()):
        if match := pattern.match(name):
            found[match[0]] += count
    return list(found.values())


def check_complete(part: Path, missing: list[str], left_over: list[str], *, form: str = "folder") -> None:
    """Raise JobRefused if a file of weights is not that of its configuration: libraries fill what is missing with noise."""
    for keys, what in ((missing, "lacks"), (left_over, "has, beside what its configuration says,")):
        if keys:
            raise JobRefused(f"{part} {what} {len(keys)} weights, such as {sorted(keys)[0]}: get the {form} again")


def check(part: Path) -> None:
    """Raise JobRefused unless a part's weights are there, whole and in safetensors."""
    files = find(part)
    for file in files:
        weight_count(file)
    if files:
        return
    name = STEMS.get(part.name, "diffusion_pytorch_model")
    if any(_SHARD.fullmatch(file.name) for file in part.iterdir()):
        raise JobRefused(f"{part} has shards without their index: get {name}.safetensors.index.json, too")
    if any(file.suffix in PICKLES for file in part.iterdir()):
        raise JobRefused(
            f"{part} has only pickled weights, which can run code: convert them with `python -m scripts.to_safetensors` (README.md)"
        )
    raise JobRefused(f"{part} has no weights: wanted {name}.safetensors")
