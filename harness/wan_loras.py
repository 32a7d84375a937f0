"""Random LoRAs for the tiny Wan of wan_files.py in the spellings that people have, and its weights with them merged by hand."""

from collections.abc import Callable
from pathlib import Path

import torch

from harness.wan_files import Weights, net_names, save

RANK, ALPHA = 4, 2.0
LAYERS = (
    "blocks.0.attn1.to_q",
    "blocks.0.attn2.to_out.0",
    "blocks.1.ffn.net.0.proj",
    "blocks.1.ffn.net.2",
    "proj_out",
    "patch_embedding",
)
NORM, BIAS = "blocks.1.norm2", "blocks.0.attn1.to_v"  # of which a whole difference of weight and of bias is added


class Parts:
    """The numbers of one LoRA, before they are spelled."""

    def __init__(self, net: Weights, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> torch.Tensor:
            return 0.2 * torch.randn(shape, generator=generator)

        self.down = {layer: draw(RANK, *net[f"{layer}.weight"].shape[1:]) for layer in LAYERS}
        self.up = {layer: draw(net[f"{layer}.weight"].shape[0], RANK) for layer in LAYERS}
        self.norm, self.bias = draw(*net[f"{NORM}.weight"].shape), draw(*net[f"{BIAS}.bias"].shape)

    def merged(self, net: Weights, strength: float, *, scale: float) -> Weights:
        """Return a net's weights with this LoRA, by the definition: W + strength x alpha / rank x up down."""
        new = {name: weight.double() for name, weight in net.items()}
        for layer in LAYERS:
            delta = torch.einsum("or,r...->o...", self.up[layer].double(), self.down[layer].double())
            new[f"{layer}.weight"] = new[f"{layer}.weight"] + strength * scale * delta
        new[f"{NORM}.weight"] = new[f"{NORM}.weight"] + strength * self.norm.double()
        new[f"{BIAS}.bias"] = new[f"{BIAS}.bias"] + strength * self.bias.double()
        return {name: weight.to(net[name].dtype) for name, weight in new.items()}


def original(layer: str) -> str:
    (name,) = net_names({f"{layer}.weight": torch.empty(0)})
    return name.removesuffix(".weight")


def _columns(up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """Return an up part with as many axes as its layer's weight has."""
    return up.reshape(*up.shape, *[1] * (down.ndim - 2))


def _whole(parts: Parts, name: Callable[[str], str]) -> Weights:
    return {f"{name(NORM)}.diff": parts.norm, f"{name(BIAS)}.diff_b": parts.bias}


def peft(parts: Parts) -> Weights:
    """diffusers': `lora_A`, `lora_B`, with no alpha."""
    found = _whole(parts, lambda layer: f"diffusion_model.{original(layer)}")
    for layer in LAYERS:
        found[f"transformer.{layer}.lora_A.weight"], found[f"transformer.{layer}.lora_B.weight"] = (
            parts.down[layer],
            _columns(parts.up[layer], parts.down[layer]),
        )
    return found


def comfyui(parts: Parts) -> Weights:
    """ComfyUI's: the makers' names behind `diffusion_model.`."""
    found = _whole(parts, lambda layer: f"diffusion_model.{original(layer)}")
    for layer in LAYERS:
        name = f"diffusion_model.{original(layer)}"
        found[f"{name}.lora_down.weight"], found[f"{name}.lora_up.weight"] = (
            parts.down[layer],
            _columns(parts.up[layer], parts.down[layer]),
        )
        found[f"{name}.alpha"] = torch.tensor(ALPHA, dtype=torch.bfloat16)
    return found


def kohya(parts: Parts, prefix: str = "lora_unet_") -> Weights:
    """kohya's and musubi's: the makers' names with underscores for dots."""
    found = _whole(parts, lambda layer: prefix + original(layer).replace(".", "_"))
    for layer in LAYERS:
        name = prefix + original(layer).replace(".", "_")
        found[f"{name}.lora_down.weight"], found[f"{name}.lora_up.weight"] = (
            parts.down[layer],
            _columns(parts.up[layer], parts.down[layer]),
        )
        found[f"{name}.alpha"] = torch.tensor([ALPHA])
    return found


def fun(parts: Parts) -> Weights:
    """Of Wan Fun: one underscore more."""
    return kohya(parts, "lora_unet__")


# A spelling -> what writes it, and what it multiplies by.
SPELLINGS: dict[str, tuple[Callable[[Parts], Weights], float]] = {
    "PEFT": (peft, 1.0), "ComfyUI": (comfyui, ALPHA / RANK), "kohya": (kohya, ALPHA / RANK), "Fun": (fun, ALPHA / RANK),
}  # fmt: skip


def write(parts: Parts, spelling: str, file: Path, **more: torch.Tensor) -> str:
    return str(save({**SPELLINGS[spelling][0](parts), **more}, file))


def write_for_bundled(folder: Path) -> None:
    """Write `subject.safetensors`, a LoRA for the bundled Wan, whose layers are 128 wide."""
    folder.mkdir(parents=True, exist_ok=True)
    layer = "diffusion_model.blocks.0.self_attn.q"
    save(
        {f"{layer}.lora_A.weight": torch.zeros(2, 128), f"{layer}.lora_B.weight": torch.zeros(128, 2)},
        folder / "subject.safetensors",
    )
