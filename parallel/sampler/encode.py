"""Encode: prompts -> the conditioning of each latent of the clip."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from ..comm.agree import agree
from ..comm.group import Group
from ..comm.share import share
from ..job.errors import Stopped
from ..job.job import Job
from ..layers.conditioning import Conditioning
from ..layers.guidance import NEGATIVE, branches
from ..maths import emphasis, prompts
from ..models.model import Model
from ..models.table import TEXT_RANK

TEXTS_AT_ONCE = 64  # a longer timeline is encoded in parts, so that memory does not grow with it
LONG_NOTICES = 5
PLAIN_TEXT = {
    re.compile(r"\{[^{}|]*\|[^{}]*\}"): "only ComfyUI's editor chooses one of {a|b}, before it sends a prompt",
    re.compile(r"<(?:lora|lyco):[^<>]*>"): "no LoRA is loaded from a prompt",
    re.compile(r"\bembedding:\S+"): "no embedding is loaded from a prompt",
}


@dataclass(frozen=True)
class Tokens:
    """A prompt as a text encoder takes it, and what it has no room for."""

    numbers: list[int]
    mask: list[int]
    weights: list[float]
    left_out: list[int]


def tokenize(model: Model, text: str) -> Tokens:
    """Return a prompt's tokens, as many as the text encoder takes: weights by ComfyUI's rules, the end left out, padded."""
    tokenizer = model.tokenizer
    assert tokenizer is not None, "refused at the door"
    length = model.text_length
    empty = tokenizer("").input_ids
    begin, end = empty[:-1], empty[-1:]  # a T5 has no token that begins a prompt
    numbers, weights = [], []
    for part, weight in emphasis.read(text):
        of_part = tokenizer(part).input_ids
        of_part = of_part[len(begin) : len(of_part) - len(end)]
        numbers += of_part
        weights += [weight] * len(of_part)
    room = length - len(empty)
    taken = [*begin, *numbers[:room], *end]
    padding = length - len(taken)
    return Tokens(
        numbers=taken + [tokenizer.pad_token_id] * padding,
        mask=[1] * len(taken) + [0] * padding,
        weights=[1.0] * len(begin) + weights[:room] + [1.0] * (len(end) + padding),
        left_out=numbers[room:],
    )


@torch.inference_mode()
def encode_tokens(model: Model, tokens: Sequence[Tokens]) -> torch.Tensor:
    """Return the embeddings of some prompts, (S, L, D), as diffusers' text-to-video pipelines make them, weighed."""
    encoded = _run(model, tokens)
    weights = torch.tensor([each.weights for each in tokens], device=encoded.device)
    if not (weights == 1).all():
        empty = _run(model, [tokenize(model, "")])
        encoded = emphasis.apply(encoded, empty[0], weights)
    return encoded


def _run(model: Model, tokens: Sequence[Tokens]) -> torch.Tensor:
    assert model.text_encoder is not None, "another rank has it"
    device = model.text_encoder.device
    numbers_SL = torch.tensor([each.numbers for each in tokens], device=device)
    mask_SL = torch.tensor([each.mask for each in tokens], device=device)
    return model.embed(numbers_SL, mask_SL)


def encode_prompts(
    model: Model,
    job: Job,
    clip: range,
    *,
    given: torch.Tensor | None = None,
    group: Group | None = None,
    notify: Callable[[str], None] = lambda text: None,
    report: Callable[[int, int], None] = lambda done, of: None,
    waiting: Callable[[], None] = lambda: None,
    stopping: Callable[[], bool] = lambda: False,
) -> Conditioning:
    """Return the conditioning of a clip's latents, in the branches that guidance asks for, from `given` embeddings if there are any.

    `notify` gets what of the prompts does not reach the model, `report` how far a long timeline is. With a group whose first
    rank alone has the text encoder it is collective, and `waiting` is called wherever a rank waits for others from then on. Raises
    Stopped, on this rank alone but for such a group, between two parts of a long timeline.
    """
    starts = tuple(prompt.frame for prompt in job.prompts)
    frames = map(model.folder.geometry.middle_frame, clip)
    last = job.frames - 1  # of the last latent the frames past the video's end hear what its last one does
    timeline = prompts.Timeline(job.frames, starts, job.fade, job.loop)
    shares = prompts.share([min(frame, last) for frame in frames], timeline)
    every_branch = branches(job.most_guidance)
    if given is not None:
        return _of_given(given, job, shares, device=group.device if group else given.device, dtype=model.dtype)
    texts = texts_of(job)
    tokens = {text: tokenize(model, text) for text in texts}
    tell(model, job, tokens, notify)
    if len(texts) > TEXTS_AT_ONCE or model.folder.shares_text:
        place = {text: number for number, text in enumerate(tokens)}
        of_clip, shares = shares.narrow([place[prompt.text] for prompt in job.prompts])
        wanted = [place[job.negative], *of_clip]
        shared_by = group if model.folder.shares_text else None
        every = list(tokens.values())
        embeddings_SLD = _encode_in_parts(
            model, every, wanted, shared_by=shared_by, report=report, waiting=waiting, stopping=stopping
        )
    else:
        embeddings_SLD = encode_tokens(model, [tokens[text] for text in texts])
    return Conditioning(embeddings_SLD, shares.to(embeddings_SLD.device), every_branch)


def _of_given(
    embeddings_SLD: torch.Tensor, job: Job, shares: prompts.Shares, *, device: torch.device, dtype: torch.dtype
) -> Conditioning:
    """Return the conditioning of a clip from embeddings that came with the job: what of them it needs."""
    place = {text: number for number, text in enumerate(job.texts)}
    of_clip, shares = shares.narrow([place[prompt.text] for prompt in job.prompts])
    wanted = embeddings_SLD[[place[job.negative], *of_clip]]
    return Conditioning(wanted.to(device, dtype), shares.to(device), branches(job.most_guidance))


def _encode_in_parts(
    model: Model,
    tokens: Sequence[Tokens],
    wanted: Sequence[int],
    *,
    shared_by: Group | None,
    report: Callable[[int, int], None],
    waiting: Callable[[], None],
    stopping: Callable[[], bool],
) -> torch.Tensor:
    """Return the wanted embeddings, (S, L, D). A part is of the same prompts on all ranks, whoever wants them (law 1)."""
    parts = [range(start, min(start + TEXTS_AT_ONCE, len(tokens))) for start in range(0, len(tokens), TEXTS_AT_ONCE)]
    if shared_by is None:
        parts = [part for part in parts if not set(part).isdisjoint(wanted)]
    embeddings = torch.empty(0)
    for done, part in enumerate(parts, start=1):
        some = tokens[part.start : part.stop]
        encoded = None if model.text_encoder is None else encode_tokens(model, some)
        if shared_by is not None:
            waiting()
            encoded = _share(model, encoded, len(some), shared_by, stopping)
        assert encoded is not None, "another rank has the text encoder, and shares what it says"
        if done == 1:
            embeddings = encoded.new_empty(len(wanted), *encoded.shape[1:])
        for row, number in enumerate(wanted):
            if number in part:
                embeddings[row] = encoded[number - part.start]
        report(done, len(parts))
        if shared_by is None and stopping():
            raise Stopped("stopped while encoding")
    return embeddings


def _share(
    model: Model, encoded_SLD: torch.Tensor | None, prompts: int, group: Group, stopping: Callable[[], bool]
) -> torch.Tensor:
    """Return the embeddings of so many prompts, (S, L, D), from the rank that has the text encoder. Collective.

    Raises Stopped on all ranks.
    """
    (stopped,) = agree(stopping(), group=group, at="while encoding")
    if stopped:
        raise Stopped("stopped while encoding")
    shape = (prompts, model.text_length, model.text_width)
    return share(encoded_SLD, shape, model.dtype, source=TEXT_RANK, group=group)


def texts_of(job: Job) -> list[str]:
    """Return the negative prompt and, in their order, the timeline's; some may be alike."""
    return [job.negative, *(prompt.text for prompt in job.prompts)]


def tell(model: Model, job: Job, tokens: Mapping[str, Tokens], notify: Callable[[str], None]) -> None:
    """Say what of a job's prompts does not reach the model, or not as it may be meant, given the tokens of each text."""
    negative, *used = texts_of(job)
    if NEGATIVE in branches(job.most_guidance):
        used.append(negative)
    for notice in _notices(model, {text: tokens[text] for text in used}):
        notify(notice)


def _notices(model: Model, tokens: dict[str, Tokens]) -> Iterator[str]:
    """Yield what of some prompts does not reach the model, or not as it may be meant."""
    too_long = [text for text, of_text in tokens.items() if of_text.left_out]
    for text in too_long[:LONG_NOTICES]:
        assert model.tokenizer is not None, "it made the tokens"
        left_out = model.tokenizer.decode(tokens[text].left_out, skip_special_tokens=True)
        yield (
            f"the prompt {_short(text, 40)!r} is too long: the text encoder takes {model.text_length} tokens, and leaves out "
            f"{_short(left_out, 200)!r}"
        )
    if len(too_long) > LONG_NOTICES:
        yield f"{len(too_long) - LONG_NOTICES} more prompts are too long"
    for form, why in PLAIN_TEXT.items():
        found = next(filter(None, map(form.search, tokens)), None)
        if found is not None:
            yield f"{_short(found[0], 60)!r} in a prompt is plain text: {why}"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
