"""The moving shapes as the small Wan models' nets are trained on them: clips, images and conditions, all as latents."""

import logging
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from einops import rearrange, repeat
from torch.nn.functional import one_hot

from scripts.moving_wan import FRAMES, LATENTS
from scripts.shapes import Scene, all_kinds, draw_scene
from scripts.train_moving_shapes import load_state, save_state
from scripts.train_wan_vae import clips_of, halves

log = logging.getLogger("train")
ORBIT_SPREAD = 0.2  # of a period: where orbits begin, if nothing is given
STILL = 13  # frames of an image that is held: the last of their latents is that of a picture that does not move


@torch.no_grad()
def measure(vae: AutoencoderKLWan, work: Path, device: torch.device) -> dict:
    """Return the `mean` and `std` (C,) of the VAE's latents."""
    file = work / "statistics.pt"
    if not file.exists():
        generator = torch.Generator().manual_seed(1)
        scenes = [draw_scene(kind, generator) for kind in all_kinds()]
        # Of samples: a channel that tells nothing has means near 0, which their own deviation would blow up.
        samples = [posterior.sample() for posterior in _posteriors(vae, clips_of(scenes, FRAMES, device))]
        sampled = rearrange(torch.cat(samples), "s c f h w -> c (s f h w)")
        save_state(file, mean=sampled.mean(1).cpu(), std=sampled.std(1).cpu())
    return load_state(file)


def _posteriors(vae: AutoencoderKLWan, clips_BCFHW: torch.Tensor, at_once: int = 128):
    for part in clips_BCFHW.split(at_once):
        with halves(part.device):
            yield vae.encode(part).latent_dist


@torch.no_grad()
def encode(vae: AutoencoderKLWan, statistics: dict, clips_BCFHW: torch.Tensor) -> torch.Tensor:
    """Return clips as a net sees them, half precision (B, C, 1 + (F - 1) / 4, 8, 8)."""
    means = torch.cat([posterior.mean.float() for posterior in _posteriors(vae, clips_BCFHW)])
    shift, scale = (rearrange(statistics[name].to(means), "c -> c 1 1 1") for name in ("mean", "std"))
    return ((means - shift) / scale).half()


def encode_scenes(vae: AutoencoderKLWan, statistics: dict, work: Path, scenes_per_kind: int, device: torch.device) -> dict:
    """Return what nets are trained on, S = 384 * `scenes_per_kind` scenes of each kind, on a device.

    Scenes go round the kinds, so that a clip's place modulo their number is its caption's.
    - `near`: clips (S, C, 9, 8, 8) in which an orbit begins near its start on the right
    - `any`: clips that begin anywhere, and for each of them
    - `still`, `still_at`: one of its frames held, (S, C, 8, 8), and the number of the latent that shows it, 1 or more
    - `pinned`, `conditions`: which of its frames are given, bool (S, 33), and the latents of a clip of these and blank ones
    """
    file = work / "latents.pt"
    if not file.exists():
        parts = [_encode_kinds(vae, statistics, seed, device) for seed in range(2, 2 + scenes_per_kind)]
        save_state(file, **{name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    return {name: tensor.to(device) for name, tensor in load_state(file).items()}


def _encode_kinds(vae: AutoencoderKLWan, statistics: dict, seed: int, device: torch.device) -> dict:
    """Return what `encode_scenes` does for one scene of each kind."""
    generator = torch.Generator().manual_seed(seed)
    scenes = [draw_scene(kind, generator) for kind in all_kinds()]
    near = [begin(scene, ORBIT_SPREAD, generator) for scene in scenes]
    anywhere = [begin(scene, 1.0, generator) for scene in scenes]
    clips = clips_of(anywhere, FRAMES, device)
    count = len(clips)
    frame = torch.randint(1, FRAMES, (count,), generator=generator)
    held = repeat(clips[torch.arange(count), :, frame], "s c h w -> s c f h w", f=STILL)
    pinned = draw_pinned(count, generator)
    shown = clips * rearrange(pinned, "s f -> s 1 f 1 1").to(device)
    log.info("encoding clips of seed %d", seed)
    return {
        "near": encode(vae, statistics, clips_of(near, FRAMES, device)).cpu(),
        "any": encode(vae, statistics, clips).cpu(),
        "still": encode(vae, statistics, held)[:, :, -1].cpu(),
        "still_at": (frame + 3) // 4,
        "pinned": pinned,
        "conditions": encode(vae, statistics, shown).cpu(),
    }


def begin(scene: Scene, spread: float, generator: torch.Generator) -> Scene:
    """Return a scene that begins within `spread` of a period around an orbit's start on the right, a bounce anywhere."""
    share = spread if scene.motion.startswith("orbiting") else 1.0
    return replace(scene, phase=share * (float(torch.rand((), generator=generator)) - 0.5))


def draw_pinned(count: int, generator: torch.Generator) -> torch.Tensor:
    """Draw which frames are given as images, bool (S, 33): mostly the first, with it the last, or one to three of any."""
    way = torch.rand(count, generator=generator)
    pinned = torch.zeros(count, FRAMES, dtype=torch.bool)
    pinned[way < 0.9, 0] = True
    pinned[(way >= 0.4) & (way < 0.6), -1] = True
    some = one_hot(torch.randint(1, FRAMES, (count, 3), generator=generator), FRAMES).bool()
    wanted = torch.arange(3) <= torch.randint(3, (count, 1), generator=generator)
    of_any = (some & wanted[..., None]).any(1)
    return pinned | (of_any & (way >= 0.6)[:, None])


def mask_of(pinned_BF: torch.Tensor) -> torch.Tensor:
    """Return the mask channels of a Wan for images, bool (B, 4, 9): one for each frame of a latent, all four for the first frame."""
    frames = torch.cat([repeat(pinned_BF[:, :1], "b 1 -> b 4"), pinned_BF[:, 1:]], dim=1)
    return rearrange(frames, "b (f four) -> b four f", f=LATENTS)


def draw_texts(data: dict, step: int, size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw for the net of texts: clips (B, C, 9, 8, 8), their captions' numbers (B,), and which latents are given, bool (B, 9).

    In every third batch the first latent is given, as that of an image is; in some of those the last too, any, or a still picture
    in the place of a latent. Where none is given, an orbit begins within 0.1 of a period of its start on the right. If it began
    anywhere, both directions would have one mean at the highest noise, and the words for them would not be learnt; within 0.3
    they were not learnt in 12,000 steps.
    """
    device = generator.device
    number = torch.randint(len(data["near"]), (size,), generator=generator, device=device)
    if step % 3 != 2:
        return data["near"][number].float(), number, torch.zeros(size, LATENTS, dtype=torch.bool, device=device)
    way = torch.rand(size, 1, generator=generator, device=device)
    place = torch.arange(LATENTS, device=device)
    also = torch.rand(size, LATENTS, generator=generator, device=device) < 0.3
    held = (way >= 0.7) & (place == data["still_at"][number, None])
    given = (place == 0) & (way < 0.9)
    given = given | ((place == LATENTS - 1) & (way < 0.15)) | (also & (way >= 0.15) & (way < 0.3)) | held
    still = rearrange(data["still"][number], "b c h w -> b c 1 h w")
    clips = torch.where(rearrange(held, "b f -> b 1 f 1 1"), still, data["any"][number])
    return clips.float(), number, given


def draw_images(data: dict, size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw for the net of images: clips (B, C, 9, 8, 8), their captions' numbers (B,), and conditions (B, 4 + C, 9, 8, 8)."""
    number = torch.randint(len(data["any"]), (size,), generator=generator, device=generator.device)
    conditions = data["conditions"][number].float()
    mask = repeat(mask_of(data["pinned"][number]).float(), "b four f -> b four f h w", h=8, w=8)
    return data["any"][number].float(), number, torch.cat([mask, conditions], dim=1)
