"""What a call of a Wan transformer and its VAE's decode keep in memory: `python -m benchmarks.wan_memory`

The sizes of Wan 2.1 1.3B and of 14B at three sizes of pictures in bfloat16, with one block: what lives at once is that of one block, however many
there are. Tensors have shapes but no numbers (the device `meta`), so nothing is computed, and what would come from other ranks is
room for it. The formulas are those of parallel/families/wan_shape.py and wan_vae_shape.py.
"""

import time
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import AutoencoderKLWan, ModelMixin, WanTransformer3DModel
from torch import nn

from benchmarks.claims import Claim, report
from benchmarks.wan_changes import changes, one_text
from harness.live import LiveBytes
from parallel.comm.group import Group
from parallel.families.held_weight import HeldWeight
from parallel.families.wan_shape import TEXT_LENGTH, ClipCall, WanShape
from parallel.families.wan_vae_shape import WanVAESizes, decode_numbers
from parallel.layers.held import HeldLinear
from parallel.layers.offload import tensors_of
from parallel.layers.patch import patched
from parallel.layers.view import View
from parallel.maths.dequantize import KINDS
from parallel.maths.scope import Span
from parallel.maths.slices import Slices
from parallel.models import wan_vae
from parallel.models.wan import NoRotation

META = torch.device("meta")
HEIGHT, WIDTH = 480, 832
SIZES = ((272, 480), (HEIGHT, WIDTH), (720, 1280))  # of pictures, height and width
LOCAL, GLOBAL = 6, 8  # latents, the rule's for models that were trained on 21
NETS = {"1.3B": WanShape(num_attention_heads=12, ffn_dim=8960, num_layers=30), "14B": WanShape()}
SLICE = 16 * 2**20  # bytes, which the formulas leave out
VAE_22: dict[str, Any] = {
    "base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "in_channels": 12, "out_channels": 12, "patch_size": 2,
    "scale_factor_spatial": 16, "is_residual": True, "latents_mean": (0.0,) * 48, "latents_std": (1.0,) * 48,
}  # fmt: skip
VAES: dict[str, dict[str, Any]] = {"Wan 2.1": {}, "Wan 2.2 5B": VAE_22}


@dataclass(frozen=True)
class Case:
    """A call of a clip, the longest of so many ranks' in a video of as many clips."""

    net: str
    latents: int
    branches: int = 1
    ranks: int = 1
    dtype: torch.dtype = torch.bfloat16
    travel: Literal["hidden_states", "keys_values"] = "hidden_states"
    size: tuple[int, int] = (HEIGHT, WIDTH)
    held: str | None = None  # how a file has the block's matrices, if they stay so

    @property
    def span(self) -> Span:
        """How far its latents see."""
        return Span(self.latents * self.ranks, LOCAL, GLOBAL)

    def __str__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.")
        size, held = f"{self.size[1]}x{self.size[0]}", "" if self.held is None else f", {self.held}"
        of = f"{self.latents} latents, {self.branches} branches, {self.ranks} ranks"
        return f"{self.net}, {size}, {of}, {kind}, {self.travel}{held}"


CASES = [Case(net, latents, branches) for net in NETS for latents in (10, 31) for branches in (1, 2)]
CASES += [Case("14B", latents, ranks=4) for latents in (10, 31)]
CASES += [Case(net, 31, size=size) for net in NETS for size in SIZES if size != (HEIGHT, WIDTH)]
CASES += [Case("1.3B", 10, ranks=4, travel="keys_values"), Case("1.3B", 10, dtype=torch.float32)]
CASES += [Case("14B", latents, held=kind) for latents in (3, 10) for kind in ("F8_E4M3", "Q4_K", "Q6_K")]


def net(shape: WanShape, dtype: torch.dtype) -> WanTransformer3DModel:
    """Return a net of one block without numbers; like released ones it keeps some small parts in float32."""
    with META:
        made = WanTransformer3DModel(
            num_attention_heads=shape.num_attention_heads, ffn_dim=shape.ffn_dim, num_layers=1, cross_attn_norm=True
        )
    lower(made, dtype)
    made.rope = NoRotation()
    return made


def hold(block: nn.Module, kind: str, dtype: torch.dtype) -> None:
    """Have a block's linear layers keep their weights as a file of a kind has them."""
    for name, layer in [(name, layer) for name, layer in block.named_modules() if isinstance(layer, nn.Linear)]:
        shape = (layer.out_features, layer.in_features)
        if kind in KINDS:
            per, size, _ = KINDS[kind]
            stored, scale = torch.empty(layer.weight.numel() // per * size, dtype=torch.uint8, device=META), None
        else:
            stored, scale = torch.empty(shape, dtype=torch.float8_e4m3fn, device=META), torch.empty((), device=META)
        owner, _, leaf = name.rpartition(".")
        made = HeldLinear(stored, kind, shape, dtype, scale=scale)
        made.bias = layer.bias
        setattr(block.get_submodule(owner), leaf, made)


def held_sizes(case: Case) -> dict[str, HeldWeight]:
    """Return the sizes of a block's largest matrices, as a file has them."""
    if case.held is None:
        return {}
    numbers = NETS[case.net].width * NETS[case.net].ffn_dim
    per, size, _ = KINDS.get(case.held, (1, 1, None))
    size = HeldWeight(numbers=numbers, bytes=numbers // per * size, in_blocks=case.held in KINDS)
    return {f"blocks.0.{layer}.weight": size for layer in ("ffn.net.0.proj", "ffn.net.2")}


def lower(made: ModelMixin, dtype: torch.dtype) -> None:
    """Make a net or a VAE one to be evaluated only, its weights of a type but for the parts that released ones keep in float32."""
    kept = made._keep_in_fp32_modules or []
    for name, parameter in made.named_parameters():
        is_kept = any(part in kept for part in name.split("."))
        parameter.data = parameter.data.to(torch.float32 if is_kept else dtype)
    made.eval().requires_grad_(False)


def call_peak(case: Case) -> int:
    """Return the most bytes of activations alive at once in a call of a rank in the middle."""
    made = net(NETS[case.net], case.dtype)
    if case.held is not None:
        hold(made.blocks[0], case.held, case.dtype)
    view = View(Group(case.ranks // 2, case.ranks, META), case.span, Slices(budget=SLICE))
    heard = {0: one_text(case.latents, case.branches)}
    height, width = case.size
    x = torch.zeros(1, 16, case.latents, height // 8, width // 8, dtype=case.dtype, device=META)
    texts = torch.zeros(case.branches, TEXT_LENGTH, 4096, dtype=case.dtype, device=META)
    times = torch.zeros(case.branches, device=META)
    with (
        torch.inference_mode(),
        patched(changes(made, view, heard, size=(height // 16, width // 16), travel=case.travel)),
        LiveBytes("meta", tensors_of(made)) as live,
    ):
        made(x.expand(case.branches, -1, -1, -1, -1), times, texts, return_dict=False)
    return live.peak


def call_formula(case: Case) -> int:
    """Return the bytes that a plan reckons with."""
    tokens = NETS[case.net].tokens(case.size[0] // 8, case.size[1] // 8)
    call = ClipCall(
        NETS[case.net], tokens, case.span, case.latents, case.dtype.itemsize, 2 if case.travel == "keys_values" else 1
    )
    return (case.branches - 1) * call.peak_bytes + call.peak_with(held_sizes(case)) + SLICE


def decode_peak(config: dict[str, Any], dtype: torch.dtype, height: int = HEIGHT, width: int = WIDTH) -> int:
    """Return the most bytes alive at once while a VAE decodes three latents, one after the other."""
    with META:
        vae = AutoencoderKLWan(**config).to(dtype).eval().requires_grad_(False)
    scale = vae.config.scale_factor_spatial
    latents = torch.zeros(1, vae.config.z_dim, 3, height // scale, width // scale, dtype=dtype, device=META)
    with torch.inference_mode(), LiveBytes("meta", vae.parameters()) as live:
        for _ in wan_vae.decode(vae, latents, halo=0, from_start=True):
            pass
    return live.peak


def decode_formula(config: dict[str, Any], dtype: torch.dtype, height: int = HEIGHT, width: int = WIDTH) -> int:
    """Return the bytes that a plan reckons with."""
    known = {name: value for name, value in config.items() if name in WanVAESizes.model_fields}
    return dtype.itemsize * decode_numbers(WanVAESizes(**known), height, width)


def main() -> int:
    began = time.perf_counter()
    rows = {str(case): {"measured": call_peak(case), "formula": call_formula(case)} for case in CASES}
    for name, config in VAES.items():
        for dtype, (height, width) in [(torch.float32, SIZES[1]), *((torch.bfloat16, size) for size in SIZES)]:
            sizes = {
                "measured": decode_peak(config, dtype, height, width),
                "formula": decode_formula(config, dtype, height, width),
            }
            rows[f"decode, {name}, {width}x{height}, {str(dtype).removeprefix('torch.')}"] = sizes
    for name, row in rows.items():
        print(f"{name}: {row['measured'] / 1e9:.3f} GB, by the formula {row['formula'] / 1e9:.3f}", flush=True)
    over = [row["formula"] / row["measured"] for row in rows.values()]
    claims = [
        Claim("Wan memory, formula over what lives, most", max(over), "<= 1.1"),
        Claim("Wan memory, formula over what lives, least", min(over), ">= 1"),
    ]
    return 0 * report("wan_memory", claims, began, rows=rows)


if __name__ == "__main__":
    raise SystemExit(main())
