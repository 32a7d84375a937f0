"""Write a model folder whose weights are pickles as one with safetensors, without running what a pickle says.

`python -m scripts.to_safetensors FOLDER OUT`. A pickle can run code as it is opened. These are opened with torch's own
restricted reader (`weights_only=True`), which builds tensors and plain containers, and ends with an error at anything else.
Nobody but the user calls this: no node, no rank and no job opens a pickle.
"""

import argparse
import json
import pickle
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from parallel.families.safety import check_pulled

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
# What diffusers and transformers call pickled weights, and what they call safetensors.
STEMS = {"diffusion_pytorch_model": "diffusion_pytorch_model", "pytorch_model": "model"}
SAFE_SINCE = (2, 6)  # of torch: before it a crafted file could run code with weights_only, too (CVE-2025-32434)


def main() -> None:
    """Convert, or say in one line why not."""
    parser = argparse.ArgumentParser(prog="python -m scripts.to_safetensors", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="a model folder in diffusers format")
    parser.add_argument("out", type=Path, help="the new folder")
    args = parser.parse_args()
    try:
        convert(args.folder, args.out)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def convert(folder: Path, out: Path) -> None:
    """Write `out`, which must not be there, whole or not at all; raise ValueError if a file holds more than weights."""
    if tuple(int(number) for number in torch.__version__.split(".")[:2]) < SAFE_SINCE:
        raise ValueError(f"wanted torch 2.6 or newer, which opens weights safely, got {torch.__version__}: update it")
    if out.exists():
        raise ValueError(f"{out} is there already: give another name")
    parts = [folder / part for part in PARTS if (folder / part).is_dir()] or [folder]
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".to_safetensors-") as work:
        new = Path(work) / "model"
        new.mkdir()
        if (folder / "model_index.json").is_file():
            shutil.copy(folder / "model_index.json", new)
        for part in parts:
            convert_part(part, new / part.relative_to(folder))
        new.rename(out)


def convert_part(part: Path, new: Path) -> None:
    """Write a part: its weights as safetensors, its configuration and words as they are."""
    new.mkdir(exist_ok=True)
    for file in sorted(part.iterdir()):
        stem = next((stem for stem in STEMS if file.name.startswith(stem)), None)
        name = file.name.replace(stem, STEMS[stem], 1) if stem else file.name
        if stem and file.suffix == ".bin":
            save_file(read(file), new / f"{name.removesuffix('.bin')}.safetensors", metadata={"format": "pt"})
        elif stem and ".bin.index" in file.name:
            (new / name.replace(".bin.index", ".safetensors.index")).write_text(json.dumps(renamed(file, stem), indent=2))
        elif file.suffix in (".json", ".txt", ".safetensors"):
            shutil.copy(file, new / name)


def read(file: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a pickle, each with memory of its own, as safetensors wants them."""
    check_pulled(file)
    try:
        held = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        cause = str(error).split("\n")[0]
        raise ValueError(
            f"{file} was not opened, it holds more than weights or is broken ({cause}): use another source"
        ) from None
    if not isinstance(held, dict) or not all(isinstance(weight, torch.Tensor) for weight in held.values()):
        raise ValueError(f"{file} holds no weights by name: is it diffusers' format?")
    return {str(name): weight.detach().clone(memory_format=torch.contiguous_format) for name, weight in held.items()}


def renamed(index: Path, stem: str) -> dict:
    """Return an index of shards that names their new files."""
    said = json.loads(index.read_text(encoding="utf-8"))
    places = {
        name: f"{file.replace(stem, STEMS[stem], 1).removesuffix('.bin')}.safetensors"
        for name, file in said["weight_map"].items()
    }
    return {**said, "weight_map": places}


if __name__ == "__main__":
    main()
