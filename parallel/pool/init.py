"""What comes with a job, checked before any rank works: it fits the job and the model, and its numbers are finite."""

import torch

from ..families.table import ModelFolder
from ..job.errors import JobRefused
from ..job.job import Job


def check_init(job: Job, model: ModelFolder, init: torch.Tensor | None, *, is_latents: bool, resumes: bool) -> None:
    """Raise JobRefused if an init does not suit the job, or if there is none and there must be."""
    samples = job.num_inference_steps > 0
    if init is None:
        if job.denoise < 1 and samples and not resumes:
            raise JobRefused(f"denoise: {job.denoise:g} needs a video or latents to start from: give an init, or use 1")
        return
    if job.denoise == 1 and samples:
        raise JobRefused("denoise: 1 would leave nothing of the init: use less, such as 0.6")
    if is_latents:
        kind, whole = "latents", model.latents_shape(job)
        one = (whole[0], 1, *whole[2:])
    else:
        kind, whole = "frames", (job.frames, job.height, job.width, 3)
        one = (1, *whole[1:])
    if tuple(init.shape) not in (whole, one):
        raise JobRefused(f"init: wanted {kind} of shape {whole} or {one}, got {tuple(init.shape)}")
    check_finite("init", init)


def check_keyframes(job: Job, keyframes: torch.Tensor | None) -> None:
    """Raise JobRefused unless the pixels of a job's keyframes are there, and of its size."""
    wanted = (job.given_frames, job.height, job.width, 3)
    if keyframes is None and not job.keyframes:
        return
    got = "none" if keyframes is None else tuple(keyframes.shape)
    if got != wanted:
        raise JobRefused(
            f"keyframes: wanted pixels of shape {wanted}, got {got}: give each keyframe's pictures, in their order"
        )
    assert keyframes is not None
    check_finite("keyframes", keyframes)


def check_embeddings(job: Job, model: ModelFolder, embeddings: torch.Tensor | None) -> None:
    """Raise JobRefused unless there is a row for each of a job's texts, (texts, tokens, width), as wide as the model takes."""
    if embeddings is None:
        if job.num_inference_steps and model.text_encoder is None:
            raise JobRefused(
                f"{job.model} is without its text encoder: give it, too (--text-encoder FILE, such as umt5_xxl_fp8_e4m3fn_scaled.safetensors), "
                "or connect clip"
            )
        return
    texts, got = len(job.texts), tuple(embeddings.shape)
    if embeddings.ndim != 3 or 0 in got or (got[0], got[2]) != (texts, model.text_width):
        raise JobRefused(
            f"embeddings: wanted ({texts}, tokens, {model.text_width}), a row for each prompt and the negative one, got {got}: use the "
            "text encoder that this model was trained with"
        )
    check_finite("embeddings", embeddings)


def check_picture_tokens(job: Job, model: ModelFolder, tokens: torch.Tensor | None) -> None:
    """Raise JobRefused unless tokens of pictures, (pictures, tokens, width), are those that the model's net takes beside keyframes."""
    if tokens is None:
        if job.num_inference_steps and model.is_blind:
            raise JobRefused(
                f"{job.model} is without CLIP's vision tower, whose tokens of pictures it takes: give it, too (--clip-vision FILE, such as "
                "clip_vision_h.safetensors), or connect clip_vision_output"
            )
        return
    wanted, got = model.picture_tokens, tuple(tokens.shape)
    if wanted is None or not job.keyframes:
        lacks = "this model takes no tokens of pictures" if wanted is None else "they are of keyframes, and none is given"
        raise JobRefused(f"picture tokens: {lacks}: leave them out")
    if tokens.ndim != 3 or 0 in got or any(size not in (None, there) for size, there in zip(wanted, got)):
        which = "the first and the last picture" if wanted[0] == 2 else "the first picture"
        raise JobRefused(
            f"picture tokens: wanted ({wanted[0]}, {wanted[1] or 'tokens'}, {wanted[2]}), those of {which}, got {got}: use the image encoder that this model was trained with"
        )
    check_finite("picture tokens", tokens)


def check_finite(name: str, values: torch.Tensor) -> None:
    """Raise JobRefused, with the name of an input, if any of its numbers is not finite."""
    if values.is_floating_point() and not bool(torch.isfinite(values).all()):
        raise JobRefused(
            f"{name}: wanted finite numbers, got some that are not: make it again, in a wider type such as float32"
        )
