"""What a graph's own encoders make of a job: a CLIP of its timeline, CONDITIONINGs of one prompt, a CLIP vision model of its pictures."""

import torch
from comfy_api.latest import io

from ..parallel.families.table import ModelFolder
from ..parallel.job.errors import JobRefused
from ..parallel.job.job import Job, Prompt
from ..parallel.pool.init import check_embeddings, check_picture_tokens
from . import host

PLAIN = {"pooled_output", "attention_mask", "num_tokens"}  # of a CONDITIONING: what changes nothing here
TOLD_ELSEWHERE = "text alone is taken from a CONDITIONING: pictures come by keyframes, and when a prompt is seen says the timeline, with clip"


def clip_input() -> io.Input:
    """Return the socket for a text encoder of the graph."""
    tip = "From Load CLIP, such as umt5_xxl for Wan, in any form that it reads: encodes all prompts. Left open: the model's own does."
    return io.Clip.Input("clip", optional=True, tooltip=tip)


def conditioning_inputs() -> list[io.Input]:
    """Return the sockets for one prompt that is encoded already, and what it is guided away from."""
    positive = "From CLIP Text Encode, instead of clip: one prompt for all frames, and the timeline's is not used."
    negative = "With positive: what to keep away from. May be left open where cfg is 1."
    return [
        io.Conditioning.Input("positive", optional=True, tooltip=positive),
        io.Conditioning.Input("negative", optional=True, tooltip=negative),
    ]


def clip_vision_input() -> io.Input:
    """Return the socket for what a CLIP vision model of the graph makes of pictures."""
    tip = "From CLIP Vision Encode, of the keyframes' first picture, or first and last as one batch: for Wan 2.1 from images. Left open: the model's own looks."
    return io.ClipVisionOutput.Input("clip_vision_output", optional=True, tooltip=tip)


def tokens_of_pictures(job: Job, model: ModelFolder, clip_vision_output) -> torch.Tensor | None:
    """Return the tokens of pictures, (pictures, tokens, width), None if none are connected; raise JobRefused if they do not fit.

    So it does if the model has nothing else that makes them.
    """
    if clip_vision_output is None:
        check_picture_tokens(job, model, None)
        return None
    tokens = clip_vision_output["penultimate_hidden_states"].float().cpu()
    try:
        check_picture_tokens(job, model, tokens)
    except JobRefused as error:
        raise JobRefused(f"clip_vision_output: {error}") from None
    return tokens


def with_embeddings(
    job: Job, model: ModelFolder, *, clip=None, positive=None, negative=None
) -> tuple[Job, torch.Tensor | None]:
    """Return a job, and the embeddings of its texts that the graph makes, (texts, tokens, width); None if it makes none.

    Raises JobRefused if they do not fit the model or each other, if it is not clear whose count, or if nobody makes them.
    """
    if clip is None and positive is None:
        if negative is not None:
            raise JobRefused("negative: is of use beside positive only: connect that too, or write it in Prompt Timeline")
        check_embeddings(job, model, None)
        return job, None
    if clip is not None and (positive is not None or negative is not None):
        raise JobRefused("clip, positive, negative: clip encodes all prompts of the timeline: disconnect it, or the other two")
    if clip is not None:
        name, rows = "clip", [host.encode_text(clip, text) for text in job.texts]
    else:
        name, rows = "positive", _of_conditionings(job, positive, negative)
        if len({prompt.text for prompt in job.prompts}) > 1:
            raise JobRefused(
                f"positive: is one prompt, and the timeline has {len(job.prompts)}: connect clip for these instead"
            )
        job = job.model_copy(update={"prompts": (Prompt(frame=0, text="positive"),), "negative": "negative"})
    embeddings = _stack(name, rows)
    try:
        check_embeddings(job, model, embeddings)
    except JobRefused as error:
        raise JobRefused(f"{name}: {error}") from None
    return job, embeddings


def _of_conditionings(job: Job, positive: list, negative: list | None) -> list[torch.Tensor]:
    """Return the negative's tokens, then the positive's, (1, L, D) each."""
    if negative is None and job.branches > 1:
        raise JobRefused("negative: cfg above 1 guides away from it, and it is not connected: connect it, or use a cfg of 1")
    named = {"negative": positive if negative is None else negative, "positive": positive}
    return [_text_of(name, conditioning) for name, conditioning in named.items()]


def _text_of(name: str, conditioning: list) -> torch.Tensor:
    """Return what a CONDITIONING says in words, (1, L, D); raise JobRefused if it says more."""
    if len(conditioning) != 1:
        raise JobRefused(f"{name}: wanted one prompt, got {len(conditioning)} in one CONDITIONING: connect one alone")
    tokens, said = conditioning[0]
    more = sorted(key for key, value in said.items() if value is not None and key not in PLAIN)
    if more:
        raise JobRefused(f"{name}: has {', '.join(more)}: {TOLD_ELSEWHERE}")
    return tokens


def _stack(name: str, rows: list[torch.Tensor]) -> torch.Tensor:
    """Return texts of several lengths as one tensor, (texts, L, D); raise JobRefused where they can't be.

    A text that is repeated says the same: the shares of attention that its tokens get are as before.
    """
    longest = max(row.shape[1] for row in rows)
    for row in rows:
        if row.ndim != 3 or len(row) != 1 or row.shape[2] != rows[0].shape[2] or longest % row.shape[1]:
            got = " and ".join(sorted({str(tuple(each.shape)) for each in rows}))
            raise JobRefused(f"{name}: wanted prompts of one length, got {got}: shorten the longest")
    return torch.cat([row.repeat(1, longest // row.shape[1], 1) for row in rows]).float().cpu()
