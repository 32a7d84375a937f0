"""Train the bundled model: `python -m scripts.train_moving_shapes --out assets/moving-shapes`.

Three stages, each resumed from its checkpoint in `--work`: an image VAE, the clips as latents, and the text encoder with
the UNet. Seeded; on two cores about 15 minutes, 3 minutes and 75 minutes.
"""

import argparse
import copy
import logging
import math
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import AttnProcessor
from torch.nn.functional import cross_entropy
from transformers import CLIPTextModel, CLIPTokenizer

from scripts.moving_shapes import TOKENS, build_scheduler, build_text_encoder, build_tokenizer, build_unet, build_vae, export
from scripts.shapes import PERIOD, Scene, all_kinds, draw_scene, render

log = logging.getLogger("train")
ORBIT_SPREAD = 0.6  # of a period: where orbits begin in cuts of 16 frames


def teach_text(encoder: CLIPTextModel, ids: torch.Tensor, steps: int = 400) -> None:
    """Train a text encoder until each token after the words tells a caption's shape, colour, background and motion.

    `ids` are the tokens of all captions in the order of `all_kinds`, (384, L). Trained with the UNet instead, words whose
    meaning shows late in a video, those of directions, lose their difference before the UNet has learnt to use it.
    """
    number = torch.arange(len(ids))
    answers = (number // 96, number // 16 % 6, number // 4 % 4, number % 4)
    heads = torch.nn.ModuleList([torch.nn.Linear(64, int(answer.max()) + 1) for answer in answers])
    optimizer = torch.optim.AdamW([*encoder.parameters(), *heads.parameters()], lr=2e-3, weight_decay=1e-2)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate(step, steps, 2e-3)
        hidden = encoder(ids)[0][:, 10:]
        losses = [cross_entropy(head(hidden).flatten(0, 1), a.repeat_interleave(14)) for head, a in zip(heads, answers)]
        loss = torch.stack(losses).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == steps - 1:
            log.info("text %d/%d loss %.4f", step, steps, loss)
    encoder.requires_grad_(False)


def rate(step: int, steps: int, peak: float) -> float:
    """Return the learning rate of a step: 100 steps of warm-up, level to 75 % of all steps, then a cosine to 2 % of the peak."""
    fall = max(0.0, step / steps - 0.75) / 0.25
    return peak * min(1, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fall)))


def save_state(file: Path, **state) -> None:
    """Write a checkpoint, whole or not at all."""
    part = file.with_suffix(".part")
    torch.save(state, part)
    part.replace(file)


def load_state(file: Path) -> dict:
    """Return a checkpoint, or step 0 if there is none."""
    return torch.load(file, map_location="cpu", weights_only=True) if file.exists() else {"step": 0}


def train_vae(work: Path, steps: int, batch: int = 16) -> AutoencoderKL:
    """Train the VAE to `steps`, from its checkpoint on, and return it."""
    vae, kinds, file = build_vae(), all_kinds(), work / "vae.pt"
    vae.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=1e-3, weight_decay=1e-4)
    state = load_state(file)
    if state["step"]:
        vae.load_state_dict(state["vae"])
        optimizer.load_state_dict(state["optimizer"])
    began = time.time()
    for step in range(state["step"], steps):
        generator = torch.Generator().manual_seed(step)
        optimizer.param_groups[0]["lr"] = rate(step, steps, 1.5e-3)
        images = torch.cat([random_frame(kinds, generator) for _ in range(batch)]).to(memory_format=torch.channels_last)
        posterior = vae.encode(images * 2 - 1).latent_dist
        # A decoder that has seen noisy latents does not flicker when the sampler leaves a little noise.
        latents = posterior.sample(generator) + 0.03 * torch.randn(batch, 4, 8, 8, generator=generator)
        # The shape is a tenth of the picture; unweighted, its colour is learnt last.
        weight = 1 + 4 * ((images - images[:, :, :1, :1]).abs().amax(1, keepdim=True) > 0.02)
        error = (vae.decode(latents).sample - (images * 2 - 1)) * weight
        loss = error.abs().mean() + error.pow(2).mean() + 1e-4 * posterior.kl().mean() / 256
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == steps - 1:
            log.info("vae %d loss %.4f l1 %.4f (%.0f s)", step, loss, error.abs().mean(), time.time() - began)
        if step % 250 == 249 or step == steps - 1:
            save_state(file, step=step + 1, vae=vae.state_dict(), optimizer=optimizer.state_dict())
    return vae.eval().requires_grad_(False)


def random_frame(kinds: list, generator: torch.Generator) -> torch.Tensor:
    """Return one frame of a random scene, (1, 3, 64, 64)."""
    kind = kinds[int(torch.randint(len(kinds), (), generator=generator))]
    scene = draw_scene(kind, generator)
    return render(scene, torch.randint(PERIOD, (1,), generator=generator))


@torch.no_grad()
def whiten(vae: AutoencoderKL) -> None:
    """Fold each latent channel's mean and deviation into the 1x1 convolutions, so that latents are N(0, 1) as they come."""
    kinds, generator = all_kinds(), torch.Generator().manual_seed(1)
    images = torch.cat([random_frame(kinds, generator) for _ in range(1024)])
    latents = torch.cat([vae.encode(part * 2 - 1).latent_dist.mean for part in images.split(128)])
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    scale = torch.cat([1 / std, torch.ones(4)])
    vae.quant_conv.weight.mul_(scale.view(-1, 1, 1, 1))
    vae.quant_conv.bias.mul_(scale).sub_(torch.cat([mean / std, 2 * std.log()]))
    weight = vae.post_quant_conv.weight
    vae.post_quant_conv.bias.add_((weight[:, :, 0, 0] * mean).sum(1))
    weight.mul_(std.view(1, -1, 1, 1))


@torch.no_grad()
def encode_scenes(vae: AutoencoderKL, work: Path, scenes_per_kind: int) -> dict:
    """Return `latents` (S, 24, 4, 8, 8), one whole period a scene, `kinds` (S,), the caption's number, and `phases` (S,)."""
    file = work / "latents.pt"
    if file.exists():
        return load_state(file)
    kinds, generator, latents = all_kinds(), torch.Generator().manual_seed(2), []
    scenes = [draw_scene(kind, generator) for _ in range(scenes_per_kind) for kind in kinds]
    for scene in scenes:
        clip = render(scene, torch.arange(PERIOD))
        latents.append(vae.encode(clip * 2 - 1).latent_dist.mean.half())
    numbers = torch.arange(len(kinds)).repeat(scenes_per_kind)
    save_state(file, latents=torch.stack(latents), kinds=numbers, phases=torch.tensor([s.phase for s in scenes]))
    return load_state(file)


def draw_batch(data: dict, step: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw random cuts of random scenes: latents (B, 4, F, 8, 8) and caption numbers (B,), -1 for no caption.

    Three of four batches are 8 cuts of 16 frames, in which an orbit begins within 0.3 of a period of its start on the right.
    If it began anywhere, both directions would have one mean at the highest noise, and the words for them would not be
    learnt. The fourth is 4 cuts of 32 frames that begin anywhere, so that frames far from both ends are known too.
    """
    long = step % 4 == 3
    size, frames = (4, 32) if long else (8, 16)
    scene = torch.randint(len(data["kinds"]), (size,), generator=generator)
    spread = torch.where((data["kinds"][scene] % 4 < 2) & (not long), ORBIT_SPREAD, 1.0)
    start = spread * (torch.rand(size, generator=generator) - 0.5)
    first = ((start - data["phases"][scene]) * PERIOD).round().long()
    shown = (first[:, None] + torch.arange(frames)) % PERIOD
    clips = data["latents"][scene[:, None], shown].float().transpose(1, 2)
    silent = torch.rand(size, generator=generator) < 0.1
    return clips, torch.where(silent, -1, data["kinds"][scene])


def draw_timesteps(size: int, generator: torch.Generator) -> torch.Tensor:
    """Draw timesteps, more than half of them above 800: a clip's motion is settled there, and drawn evenly it is not learnt in time."""
    low = torch.where(torch.rand(size, generator=generator) < 0.5, 800, 0)
    return (low + torch.rand(size, generator=generator) * (1000 - low)).long()


def train_unet(data: dict, work: Path, steps: int) -> tuple[CLIPTokenizer, torch.nn.ModuleDict]:
    """Train the UNet to `steps`, from its checkpoint on; return the tokenizer, and text encoder and averaged UNet."""
    torch.manual_seed(0)
    tokenizer, scheduler = build_tokenizer(), build_scheduler()
    # In eval mode: the dropout that diffusers fixes in temporal convolutions only slows a model this small.
    model = torch.nn.ModuleDict({"text": build_text_encoder(tokenizer), "unet": build_unet()}).eval()
    model["unet"].set_attn_processor(AttnProcessor())  # on a CPU, the fused attention's backward takes 40 % of a step
    captions = [Scene(*kind).caption for kind in all_kinds()] + [""]
    ids = tokenizer(captions, padding="max_length", max_length=TOKENS, return_tensors="pt").input_ids
    state = load_state(work / "unet.pt")
    if not state["step"]:
        teach_text(model["text"], ids[:-1])
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model["unet"].parameters(), lr=6e-4, weight_decay=1e-2, fused=True)
    if state["step"]:
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
    with torch.no_grad():
        told = model["text"](ids)[0]
    began, mean_loss = time.time(), None
    for step in range(state["step"], steps):
        generator = torch.Generator().manual_seed(10_000_000 + step)
        optimizer.param_groups[0]["lr"] = rate(step, steps, 6e-4)
        clips, caption = draw_batch(data, step, generator)
        t = draw_timesteps(len(clips), generator)
        noise = torch.randn(clips.shape, generator=generator)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            guess = model["unet"](scheduler.add_noise(clips, noise, t), t, told[caption]).sample
        loss = (guess.float() - scheduler.get_velocity(clips, noise, t)).pow(2).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model["unet"].parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        keep = min(0.9985, (1 + step) / (20 + step))
        torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in model.parameters()], 1 - keep)
        mean_loss = loss.item() if mean_loss is None else 0.98 * mean_loss + 0.02 * loss.item()
        if step % 50 == 0 or step == steps - 1:
            log.info("unet %d/%d loss %.4f (%.0f s)", step, steps, mean_loss, time.time() - began)
        if step % 250 == 249 or step == steps - 1:
            weights = {"model": model.state_dict(), "average": average.state_dict()}
            save_state(work / "unet.pt", step=step + 1, optimizer=optimizer.state_dict(), **weights)
    return tokenizer, average.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/moving-shapes"), help="checkpoints live here")
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    parser.add_argument("--vae-steps", type=int, default=7400)
    parser.add_argument("--unet-steps", type=int, default=9000)
    parser.add_argument("--scenes-per-kind", type=int, default=8)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    args.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    vae = train_vae(args.work, args.vae_steps)
    whiten(vae)
    data = encode_scenes(vae, args.work, args.scenes_per_kind)
    export(vae, *train_unet(data, args.work, args.unet_steps), args.out)


if __name__ == "__main__":
    main()
