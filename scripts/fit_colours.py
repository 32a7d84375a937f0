"""Fit the colours of previews, a linear map from latents to RGB, for a VAE that knows moving shapes.

`python -m scripts.fit_colours assets/moving-shapes` writes `vae/latent_rgb_factors.json`, under ComfyUI's names, and says how
far the colours are off.
"""

import argparse
import json
import logging
from pathlib import Path

import diffusers
import torch
from diffusers import AutoencoderKL, AutoencoderKLWan
from einops import rearrange

from scripts.shapes import PERIOD, Scene, all_kinds, draw_scene, render

log = logging.getLogger("fit")
FILE = "latent_rgb_factors.json"


def of_images(vae: AutoencoderKL, scene: Scene, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return 8 latents as the net sees them, (8, C, H, W), and the frames that they are of, in [-1, 1]."""
    image_FCHW = render(scene, torch.rand(8, generator=generator) * PERIOD) * 2 - 1
    return vae.encode(image_FCHW).latent_dist.mode() * vae.config.scaling_factor, image_FCHW


def of_clip(vae: AutoencoderKLWan, scene: Scene, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a clip's 8 latents as the net sees them, (8, C, H, W), and the first frame of each, in [-1, 1]."""
    clip_FCHW = render(scene, torch.rand(1, generator=generator) * PERIOD + torch.arange(29)) * 2 - 1
    latent_CFHW = vae.encode(rearrange(clip_FCHW, "f c h w -> 1 c f h w")).latent_dist.mode()[0]
    mean, std = (torch.tensor(part).view(-1, 1, 1, 1) for part in (vae.config.latents_mean, vae.config.latents_std))
    first_FCHW = torch.cat([clip_FCHW[:1], clip_FCHW[1::4]])
    return rearrange((latent_CFHW - mean) / std, "c f h w -> f c h w"), first_FCHW


def pairs(vae: AutoencoderKL | AutoencoderKLWan) -> tuple[torch.Tensor, torch.Tensor]:
    """Return latent pixels beside their frame's mean (N, 2 C), as the net sees them, and the colours that they cover (N, 3)."""
    encode = of_clip if isinstance(vae, AutoencoderKLWan) else of_images
    generator = torch.Generator().manual_seed(0)
    latents, colours = [], []
    for kind in all_kinds():
        scene = draw_scene(kind, generator)
        with torch.inference_mode():
            latent_FCHW, image_FCHW = encode(vae, scene, generator)
        mean_FCHW = latent_FCHW.mean((2, 3), keepdim=True).expand_as(latent_FCHW)
        latents.append(rearrange([latent_FCHW, mean_FCHW], "two f c h w -> (f h w) (two c)"))
        covered_FCHW = torch.nn.functional.adaptive_avg_pool2d(image_FCHW, latent_FCHW.shape[-2:])
        colours.append(rearrange(covered_FCHW, "f c h w -> (f h w) c"))
    return torch.cat(latents), torch.cat(colours)


def fit(vae: AutoencoderKL | AutoencoderKLWan) -> dict[str, list]:
    """Return the map that comes nearest to the colours, in [-1, 1], and say how near."""
    latents, colours = (part.double() for part in pairs(vae))
    with_one = torch.cat([latents, torch.ones(len(latents), 1)], dim=1)
    factors = torch.linalg.lstsq(with_one, colours).solution
    off = ((with_one @ factors).clamp(-1, 1) - colours).abs().mean() * 127.5
    spread = (colours - colours.mean(0)).abs().mean() * 127.5
    log.info("colours are off by %.1f of 255 on average; the mean colour everywhere would be by %.1f", off, spread)
    rows = [[round(value, 4) for value in row] for row in factors.tolist()]
    channels = (len(rows) - 1) // 2
    return {
        "latent_rgb_factors": rows[:channels],
        "latent_rgb_factors_of_mean": rows[channels:-1],
        "latent_rgb_factors_bias": rows[-1],
    }


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a diffusers folder")
    folder = parser.parse_args().model / "vae"
    kind = getattr(diffusers, json.loads((folder / "config.json").read_text())["_class_name"])
    fitted = fit(kind.from_pretrained(folder).eval())
    lines = ",\n".join(f'  "{name}": {json.dumps(rows)}' for name, rows in fitted.items())
    (folder / FILE).write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
