"""A tiny Wan of which each part is in a file of its own, and folders of the same numbers."""

from dataclasses import dataclass
from pathlib import Path

import torch

from harness import wan_files, wan_original
from parallel.job.files import ModelFiles


@dataclass(frozen=True)
class Tiny:
    """Its parts, and the files of those beside the net."""

    place: Path
    parts: dict[str, torch.nn.Module]
    pieces: bytes
    files: ModelFiles

    @property
    def net(self) -> dict[str, torch.Tensor]:
        """The net's weights."""
        return self.parts["transformer"].state_dict()

    def twin(self, name: str, **nets: dict[str, torch.Tensor]) -> str:
        """Return a folder in diffusers format whose nets have other numbers."""
        parts = dict(self.parts)
        for part, numbers in nets.items():
            parts[part] = wan_files.net()
            parts[part].load_state_dict({key: weight.float() for key, weight in numbers.items()})
        return str(wan_files.folder(self.place / name, parts=parts, pieces=self.pieces))

    def write(self, name: str, weights: dict[str, torch.Tensor]) -> str:
        """Write weights to a file; return it."""
        return str(wan_files.save(weights, self.place / f"{name}.safetensors"))


def text_weights(encoder: torch.nn.Module, pieces: bytes) -> dict[str, torch.Tensor]:
    """Return a text encoder's weights as ComfyUI's files have them, its tokenizer among them."""
    held = {name: weight for name, weight in encoder.state_dict().items() if name != "encoder.embed_tokens.weight"}
    return {**held, "spiece_model": torch.tensor(list(pieces), dtype=torch.uint8)}


def tiny_files(place: Path) -> Tiny:
    """Write the files of a VAE and of a text encoder."""
    pieces = wan_files.vocabulary()
    encoder = wan_files.text_encoder(len(wan_files.tokenizer(pieces)))
    parts = {"transformer": wan_files.net(), "vae": wan_files.vae(), "text_encoder": encoder}
    vae = wan_files.save(wan_original.original_names(parts["vae"].state_dict()), place / "vae.safetensors")
    text = wan_files.save(text_weights(encoder, pieces), place / "text.safetensors")
    return Tiny(place, parts, pieces, ModelFiles(vae=str(vae), text_encoder=str(text)))
