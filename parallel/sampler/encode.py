"""Encode: prompts -> what each frame of the clip hears; init frames -> the clip's latents."""

from collections.abc import Iterator

import torch

from ..layers.heard import NEGATIVE, POSITIVE, Heard
from ..maths import prompts
from ..protocol import Job
from .load import Model


@torch.inference_mode()
def encode_text(model: Model, texts: list[str]) -> torch.Tensor:
    """Return the embeddings of some texts, (S, L, D), as diffusers' text-to-video pipelines make them."""
    encoder, tokenizer = model.text_encoder, model.tokenizer
    length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    tokens = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    masked = getattr(encoder.config, "use_attention_mask", False)
    mask = tokens.attention_mask.to(encoder.device) if masked else None
    return encoder(tokens.input_ids.to(encoder.device), attention_mask=mask)[0]


def encode_prompts(model: Model, job: Job, clip: range) -> Heard:
    """Return what the clip's frames hear: with guidance in both branches, else in the positive one."""
    embeddings_SLD = encode_text(model, [job.negative, *(prompt.text for prompt in job.prompts)])
    starts = tuple(prompt.frame for prompt in job.prompts)
    timeline = prompts.Timeline(job.frames, starts, job.fade, job.loop)
    branches = range(NEGATIVE if job.guidance_scale > 1 else POSITIVE, POSITIVE + 1)
    return Heard(embeddings_SLD, prompts.share(clip, timeline, embeddings_SLD.device), branches)


def encode_frames(model: Model, frames_FHWC: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the latents of uint8 or float (0 to 1) frames, (1, C, 1, H, W) each: the mode of the VAE's posterior, scaled."""
    for frame_HWC in frames_FHWC:
        picture = frame_HWC if frame_HWC.is_floating_point() else frame_HWC.float() / 255
        image = (picture.permute(2, 0, 1) * 2 - 1)[None].to(model.vae.device, model.dtype)
        with torch.inference_mode():
            latent = model.vae.encode(image).latent_dist.mode().float() * model.vae.config.scaling_factor
        yield latent[:, :, None]
