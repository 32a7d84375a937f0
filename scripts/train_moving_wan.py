"""Train the small Wan model: `python -m scripts.train_moving_wan --out assets/moving-shapes-wan`.

Four stages, each resumed from its checkpoint in `--work`: a video VAE, clips as latents, the text encoder, and the
transformer. Seeded.
"""

import argparse
import copy
import logging
import math
import time
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from einops import rearrange, repeat
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from transformers import T5TokenizerFast, UMT5EncoderModel

from scripts.moving_wan import LATENTS, TOKENS, build_text_encoder, build_tokenizer, build_transformer, export
from scripts.shapes import Scene, all_kinds
from scripts.train_moving_shapes import load_state, rate, save_state
from scripts.train_wan_vae import encode_scenes, train_vae

log = logging.getLogger("train")
PEAK = 1e-3  # learning rate
# Of the noise in training: at first half of it is above 0.8, where a clip's motion is settled; in the last fifth of the steps
# a third, since a shape is settled below.
SHIFTS = (4.0, 2.0)
LONGEST = 512  # tokens of a caption, the stock pipeline's own default; most of them are padding


class PaddedOnce(WanAttnProcessor):
    """Attention to a caption whose last token, one of its padding, stands for `last_counts` equal ones.

    Padding is zeros, and the net attends to it. 512 keys of it would double a step; one whose score is raised by
    the logarithm of their number is the same sum.
    """

    last_counts = 1

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None):
        bias = hidden_states.new_zeros(1, 1, 1, encoder_hidden_states.shape[1])
        bias[..., -1] = math.log(self.last_counts)
        return super().__call__(attn, hidden_states, encoder_hidden_states, bias, rotary_emb)


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
def tell(tokenizer: T5TokenizerFast, encoder: UMT5EncoderModel) -> torch.Tensor:
    """Return what the transformer is told of each caption, and last of none, (385, L, 64): zeros behind it, one at least."""
    captions = [Scene(*kind).caption for kind in all_kinds()] + [""]
    tokens = tokenizer(captions, padding=True, return_tensors="pt")
    hidden = encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state * tokens.attention_mask[..., None]
    return torch.nn.functional.pad(hidden, (0, 0, 0, 1))


def draw_batch(data: dict, step: int, size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw clips (B, C, F, 8, 8), caption numbers (B,), -1 for no caption, and which latents are given, bool (B, F).

    In every fifth batch the first latent is given, as that of an image is; in some of those the last too, or any.
    Where none is given, an orbit begins within 0.3 of a period of its start on the right. If it began anywhere, both
    directions would have one mean at the highest noise, and the words for them would not be learnt.
    """
    given = torch.zeros(size, LATENTS, dtype=torch.bool)
    clips = data["near"]
    if step % 5 == 4:
        clips = data["any"]
        also = torch.rand(size, generator=generator)
        given[:, 0] = True
        given[also < 0.2, -1] = True
        some = torch.rand(size, LATENTS, generator=generator) < 0.3
        given |= some & (also > 0.8)[:, None]
    chosen = torch.randint(len(clips), (size,), generator=generator)
    silent = torch.rand(size, generator=generator) < 0.1
    captions = torch.where(silent, -1, chosen % len(all_kinds()))
    return clips[chosen].float(), captions, given


def draw_sigmas(size: int, shift: float, generator: torch.Generator) -> torch.Tensor:
    """Draw shares of noise, in [0, 1]."""
    even = torch.rand(size, generator=generator)
    return shift * even / (1 + (shift - 1) * even)


def train_transformer(data: dict, told: torch.Tensor, work: Path, steps: int, batch: int = 16) -> WanTransformer3DModel:
    """Train the transformer to `steps`, from its checkpoint on, and return it averaged. `told` is as `tell` returns it."""
    net, file = build_transformer(), work / "transformer.pt"
    average = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK, weight_decay=1e-2, fused=True)
    state = load_state(file)
    if state["step"]:
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
    padded = PaddedOnce()
    for block in net.blocks:
        block.attn2.set_processor(padded)
    began, mean_loss = time.time(), None
    for step in range(state["step"], steps):
        generator = torch.Generator().manual_seed(10_000_000 + step)
        optimizer.param_groups[0]["lr"] = rate(step, steps, PEAK)
        clips, caption, given = draw_batch(data, step, batch, generator)
        tokens = LONGEST if torch.rand((), generator=generator) < 0.5 else TOKENS
        padded.last_counts = tokens - told.shape[1] + 1
        shift = SHIFTS[step >= 0.8 * steps]
        loss = loss_of(net, clips, given, told[caption], shift, generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        keep = min(0.999, (1 + step) / (20 + step))
        torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in net.parameters()], 1 - keep)
        mean_loss = loss.item() if mean_loss is None else 0.98 * mean_loss + 0.02 * loss.item()
        if step % 50 == 0 or step == steps - 1:
            log.info("transformer %d/%d loss %.4f (%.0f s)", step, steps, mean_loss, time.time() - began)
        if step % 250 == 249 or step == steps - 1:
            weights = {"net": net.state_dict(), "average": average.state_dict()}
            save_state(file, step=step + 1, optimizer=optimizer.state_dict(), **weights)
    return average.eval()


def loss_of(
    net: WanTransformer3DModel,
    clips: torch.Tensor,
    given: torch.Tensor,
    told: torch.Tensor,
    shift: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return the flow's loss, over the latents that are not given."""
    sigma = draw_sigmas(len(clips), shift, generator)[:, None] * ~given
    noise = torch.randn(clips.shape, generator=generator)
    share = rearrange(sigma, "b f -> b 1 f 1 1")
    times = 1000 * sigma[:, -1]
    if given.any():
        times = repeat(1000 * sigma, "b f -> b (f n)", n=16)  # one for each token: 4 by 4 a latent
    # On a CPU, the fused attention's backward takes half of a step.
    with torch.autocast("cpu", dtype=torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        guess = net((1 - share) * clips + share * noise, times, told, return_dict=False)[0]
    error = (guess.float() - (noise - clips)).pow(2).mean((1, 3, 4))
    return error[~given].mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/moving-wan"), help="checkpoints live here")
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    parser.add_argument("--vae-steps", type=int, default=3400)
    parser.add_argument("--transformer-steps", type=int, default=6300)
    parser.add_argument("--scenes-per-kind", type=int, default=4)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    args.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    vae = train_vae(args.work, args.vae_steps)
    data = encode_scenes(vae, args.work, args.scenes_per_kind)
    vae.register_to_config(latents_mean=data["mean"].tolist(), latents_std=data["std"].tolist())
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    encoder = train_text(args.work, tokenizer)
    transformer = train_transformer(data, tell(tokenizer, encoder), args.work, args.transformer_steps)
    export(vae, tokenizer, encoder, transformer, args.out)


if __name__ == "__main__":
    main()
