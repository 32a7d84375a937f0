"""Train the small Wan models: `python -m scripts.train_moving_wan --out assets/moving-shapes-wan`.

Stages, each resumed from its checkpoint in `--work`: a video VAE, the text encoder, clips as latents, and two transformers, one that
is told texts and may be given latents, and one with the condition channels of Wan's image-to-video. Seeded, and meant for a GPU.
On CPUs, go on from a model of this script's instead: `--begin assets/moving-shapes-wan --batch 24 --scenes-per-kind 6`.
"""

import argparse
import copy
import logging
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from einops import rearrange, repeat
from torch.nn.functional import cross_entropy, pad
from transformers import T5TokenizerFast, UMT5EncoderModel

from scripts.moving_wan import TOKENS, build_text_encoder, build_tokenizer, build_transformer, export, export_for_images
from scripts.shapes import Scene, all_kinds
from scripts.train_moving_shapes import load_state, rate, save_state
from scripts.train_wan_vae import halves, train_vae
from scripts.wan_clips import draw_images, draw_texts, encode_scenes, measure

log = logging.getLogger("train")
PEAK = 1e-3  # learning rate
# Of the noise in training: half of it is above 0.8, where a clip's motion is settled; in the last third of the steps a third,
# since a shape is settled below. In every other batch half of it is above 0.92: which way an orbit turns is settled there.
SHIFTS, HIGH_SHIFT = (4.0, 2.0), 12.0
LONGEST = 512  # tokens of a caption, the stock pipeline's own default; most of them are padding, and cost as much as the video


def train_text(work: Path, tokenizer: T5TokenizerFast, steps: int = 400) -> UMT5EncoderModel:
    """Train a text encoder until each token of a caption tells its shape, colour, background and motion, and return it frozen.

    Trained with the transformer instead, words whose meaning shows late in a video, those of directions, lose their
    difference before the transformer has learnt to use it.
    """
    encoder, file = build_text_encoder(tokenizer), work / "text.pt"
    state = load_state(file)
    if state["step"]:
        encoder.load_state_dict(state["text"])
        return encoder.eval().requires_grad_(False)
    ids = tokenizer([Scene(*kind).caption for kind in all_kinds()], return_tensors="pt").input_ids
    number = torch.arange(len(ids))
    answers = (number // 96, number // 16 % 6, number // 4 % 4, number % 4)
    heads = torch.nn.ModuleList([torch.nn.Linear(64, int(answer.max()) + 1) for answer in answers])
    optimizer = torch.optim.AdamW([*encoder.parameters(), *heads.parameters()], lr=2e-3, weight_decay=1e-2)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate(step, steps, 2e-3)
        hidden = rearrange(encoder(ids).last_hidden_state, "k l c -> (k l) c")
        each = [repeat(answer, "k -> (k l)", l=ids.shape[1]) for answer in answers]
        loss = torch.stack([cross_entropy(head(hidden), answer) for head, answer in zip(heads, each)]).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == steps - 1:
            log.info("text %d/%d loss %.4f", step, steps, loss.item())
    save_state(file, step=steps, text=encoder.state_dict())
    return encoder.eval().requires_grad_(False)


@torch.no_grad()
def tell(tokenizer: T5TokenizerFast, encoder: UMT5EncoderModel, device: torch.device) -> torch.Tensor:
    """Return what a net is told of each caption, and last of none, on a device, (385, L, 64): zeros behind it."""
    captions = [Scene(*kind).caption for kind in all_kinds()] + [""]
    tokens = tokenizer(captions, padding=True, return_tensors="pt")
    hidden = encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state * tokens.attention_mask[..., None]
    return hidden.to(device)


def train_transformer(
    name: str,
    data: dict,
    told: torch.Tensor,
    work: Path,
    steps: int,
    batch: int,
    device: torch.device,
    begin: Path | None = None,
) -> WanTransformer3DModel:
    """Train the net of `texts` or of `images` to `steps`, from its checkpoint on, and return it averaged.

    `data` is as `encode_scenes` returns it, `told` as `tell` does. Without a checkpoint it begins with the net in the
    folder `begin`, if there is one.
    """
    net, file = build_transformer(of_images=name == "images").to(device), work / f"{name}.pt"
    if begin:
        begin_with(net, WanTransformer3DModel.from_pretrained(begin / "transformer", torch_dtype=torch.float32))
    average = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK, weight_decay=1e-2, fused=True)
    state = load_state(file)
    if state["step"]:
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
    net.compile()
    began = time.time()
    for step in range(state["step"], steps):
        generator = torch.Generator(device).manual_seed(10_000_000 + step)
        optimizer.param_groups[0]["lr"] = rate(step, steps, PEAK)
        shift = HIGH_SHIFT if step % 2 else SHIFTS[step >= 0.7 * steps]
        if name == "images":
            loss = loss_of_images(net, *draw_images(data, batch, generator), told, step, shift, generator)
        else:
            loss = loss_of_texts(net, *draw_texts(data, step, batch, generator), told, step, shift, generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        keep = min(0.999, (1 + step) / (20 + step))
        torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in net.parameters()], 1 - keep)
        if step % 100 == 0 or step == steps - 1:
            log.info("%s %d/%d loss %.4f (%.1f s)", name, step, steps, loss.item(), time.time() - began)
        if step % 250 == 249 or step == steps - 1:
            weights = {"net": net.state_dict(), "average": average.state_dict()}
            save_state(file, step=step + 1, optimizer=optimizer.state_dict(), **weights)
    return average.cpu().eval()


def begin_with(net: WanTransformer3DModel, other: WanTransformer3DModel) -> None:
    """Give a net another's weights; channels that the other does not have tell it nothing yet."""
    weights = other.state_dict()
    patch = net.patch_embedding.weight
    known = weights["patch_embedding.weight"]
    weights["patch_embedding.weight"] = torch.cat([known, torch.zeros_like(patch[:, known.shape[1] :])], dim=1)
    net.load_state_dict(weights)


def hear(told: torch.Tensor, number: torch.Tensor, step: int, generator: torch.Generator) -> torch.Tensor:
    """Return what a net is told with clips of some numbers (B,): their captions, a tenth of them none, padded by zeros.

    To 512 tokens, or to the few that the bundled tokenizer allows: the net attends to the padding, too.
    """
    silent = torch.rand(len(number), generator=generator, device=generator.device) < 0.1
    captions = torch.where(silent, len(told) - 1, number % (len(told) - 1))
    tokens = LONGEST if step % 4 == 1 else TOKENS
    return pad(told[captions], (0, 0, 0, tokens - told.shape[1]))


def draw_sigmas(size: int, shift: float, generator: torch.Generator) -> torch.Tensor:
    """Draw shares of noise, in [0, 1]."""
    even = torch.rand(size, generator=generator, device=generator.device)
    return shift * even / (1 + (shift - 1) * even)


def loss_of_texts(
    net: WanTransformer3DModel,
    clips: torch.Tensor,
    number: torch.Tensor,
    given: torch.Tensor,
    told: torch.Tensor,
    step: int,
    shift: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return the flow's loss, over the latents that are not given; each latent has a time of its own, a given one time 0."""
    sigma = draw_sigmas(len(clips), shift, generator)[:, None] * ~given
    noise = torch.randn(clips.shape, generator=generator, device=clips.device)
    share = rearrange(sigma, "b f -> b 1 f 1 1")
    times = repeat(1000 * sigma, "b f -> b (f n)", n=16)  # one for each token: 4 by 4 a latent
    heard = hear(told, number, step, generator)
    with halves(clips.device):
        guess = net((1 - share) * clips + share * noise, times, heard, return_dict=False)[0]
    error = (guess.float() - (noise - clips)).pow(2).mean((1, 3, 4))
    return (error * ~given).sum() / (~given).sum()


def loss_of_images(
    net: WanTransformer3DModel,
    clips: torch.Tensor,
    number: torch.Tensor,
    conditions: torch.Tensor,
    told: torch.Tensor,
    step: int,
    shift: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return the flow's loss of clips whose conditions are channels of their own."""
    sigma = draw_sigmas(len(clips), shift, generator)
    noise = torch.randn(clips.shape, generator=generator, device=clips.device)
    share = rearrange(sigma, "b -> b 1 1 1 1")
    noisy = torch.cat([(1 - share) * clips + share * noise, conditions], dim=1)
    heard = hear(told, number, step, generator)
    with halves(clips.device):
        guess = net(noisy, 1000 * sigma, heard, return_dict=False)[0]
    return (guess.float() - (noise - clips)).pow(2).mean()


def load_parts(folder: Path, device: torch.device) -> tuple[AutoencoderKLWan, dict, UMT5EncoderModel]:
    """Return a model's VAE on a device, the `mean` and `std` (C,) of its latents, and its text encoder, all frozen."""
    vae = AutoencoderKLWan.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval().requires_grad_(False)
    statistics = {"mean": torch.tensor(vae.config.latents_mean), "std": torch.tensor(vae.config.latents_std)}
    encoder = UMT5EncoderModel.from_pretrained(folder / "text_encoder")
    return vae.to(device), statistics, encoder.eval().requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/moving-wan"), help="checkpoints live here")
    parser.add_argument("--out", type=Path, help="folder to write the model for texts to")
    parser.add_argument("--out-images", type=Path, help="folder to write the model for images to")
    parser.add_argument(
        "--begin", type=Path, help="folder of a model whose VAE and text encoder are kept, and whose net is the start"
    )
    parser.add_argument("--only", choices=("vae", "latents", "texts", "images"), help="end when this is trained")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--vae-steps", type=int, default=7000)
    parser.add_argument("--steps", type=int, default=12000, help="of each net")
    parser.add_argument("--vae-batch", type=int, default=48)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--scenes-per-kind", type=int, default=32)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    args.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    if args.begin:
        vae, statistics, encoder = load_parts(args.begin, args.device)
    else:
        vae = train_vae(args.work, args.vae_steps, args.vae_batch, args.device)
        if args.only == "vae":
            return
        statistics = measure(vae, args.work, args.device)
        torch.manual_seed(0)
        encoder = train_text(args.work, tokenizer)
    data = encode_scenes(vae, statistics, args.work, args.scenes_per_kind, args.device)
    if args.only == "latents":
        return
    told = tell(tokenizer, encoder, args.device)
    vae.cpu().register_to_config(latents_mean=statistics["mean"].tolist(), latents_std=statistics["std"].tolist())
    for name, out, write in (("texts", args.out, export), ("images", args.out_images, export_for_images)):
        if args.only in (None, name):
            net = train_transformer(name, data, told, args.work, args.steps, args.batch, args.device, args.begin)
            if out:
                write(vae, tokenizer, encoder, net, out)


if __name__ == "__main__":
    main()
