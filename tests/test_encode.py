"""Prompts on a rank: what does not reach the model is said, and a long timeline is encoded in parts, the same on all ranks."""

from itertools import product

import pytest
import torch

from parallel.families.folder import inspect
from parallel.job.errors import Stopped
from parallel.job.job import Job, Prompt, checked
from parallel.maths import clips
from parallel.sampler import encode, load

LONG = "cat dog a cat dog a dog cat"  # the tiny encoder takes 6 words


@pytest.fixture(scope="module")
def model(tiny) -> load.Model:
    return load.load(inspect(str(tiny)), torch.float32)


def job(model: load.Model, *texts: str, frames: int = 0, **more) -> Job:
    prompts = tuple(Prompt(frame=frame, text=text) for frame, text in enumerate(texts))
    folder = str(model.folder.unet.parent)
    return checked(Job, model=folder, prompts=prompts, frames=max(frames, len(texts)), height=16, width=16, **more)


def notices(model: load.Model, *texts: str, **more) -> list[str]:
    said: list[str] = []
    encode.encode_prompts(model, job(model, *texts, **more), range(len(texts)), notify=said.append)
    return said


def test_what_the_text_encoder_leaves_out_is_said_once_a_prompt(model):
    assert notices(model, "cat dog a cat dog a", "cat") == []
    assert notices(model, LONG, "cat", LONG, "(" + LONG + ":0.5)") == [
        f"the prompt {LONG!r} is too long: the text encoder takes 8 tokens, and leaves out 'dog cat'",
        f"the prompt {'(' + LONG + ':0.5)'!r} is too long: the text encoder takes 8 tokens, and leaves out 'dog cat'",
    ]


def test_a_negative_prompt_that_is_not_heard_is_not_spoken_of(model):
    assert len(notices(model, "cat", negative=LONG)) == 1
    assert notices(model, "cat", negative=LONG, guidance_scale=1.0) == []


def test_notices_are_bounded(model):
    *five, last = notices(model, *(LONG * 300 + " cat" * number for number in range(9)))
    assert len(five) == 5 and last == "4 more prompts are too long"
    assert all(len(notice) < 400 for notice in five)


@pytest.mark.parametrize(
    "text, said",
    [
        ("a {cat|dog}", "'{cat|dog}' in a prompt is plain text: only ComfyUI's editor chooses one of {a|b}, before it sends a prompt"),
        ("<lora:cat:0.8>", "'<lora:cat:0.8>' in a prompt is plain text: no LoRA is loaded from a prompt"),
        ("embedding:cat", "'embedding:cat' in a prompt is plain text: no embedding is loaded from a prompt"),
    ],
)  # fmt: skip
def test_what_means_something_elsewhere_is_said_to_be_plain_text(model, text, said):
    assert said in notices(model, "cat", text, text + " a")
    assert not any("plain text" in notice for notice in notices(model, "{cat}", "[a|b]", "BREAK", "a | b", "<cat>"))


def test_the_user_hears_it_once_from_all_ranks(pools, model):
    said: list[str] = []
    pools(2).run(job(model, LONG, "cat", num_inference_steps=0), on_notice=said.append)
    assert said == [f"the prompt {LONG!r} is too long: the text encoder takes 8 tokens, and leaves out 'dog cat'"]


TEXTS = [" ".join(words) for words in product(["cat", "dog", "a"], repeat=5)]


@pytest.mark.parametrize("fade", [0, 3])
def test_a_long_timeline_is_encoded_in_parts_and_the_same_for_any_cut(model, fade):
    sizes = []
    hook = model.text_encoder.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    long = job(model, *TEXTS, *TEXTS, frames=500, fade=fade, loop=True, negative="dog")
    try:
        whole = encode.encode_prompts(model, long, range(500))
        assert sizes == [64, 64, 64, 52]
        cut = [encode.encode_prompts(model, long, clip) for clip in clips.cut(500, 5)]
        assert max(sizes) == 64 and len(sizes[4:]) < 5 * 4, "a rank encodes what it hears"
    finally:
        hook.remove()
    assert len(whole.prompts_SLD) == 1 + len(TEXTS), "what is said twice is held once"
    for branch in (0, 1):
        expected = whole.rows(slice(500 * branch, 500 * branch + 500))
        rows = [part.rows(slice(n * branch, n * branch + n)) for part in cut for n in (len(part.shares.share),)]
        assert torch.equal(torch.cat(rows), expected)
    alone = encode.encode_tokens(model, [encode.tokenize(model, text) for text in TEXTS[:20]])
    assert fade or torch.allclose(whole.rows(slice(500, 520)), alone, atol=1e-6)
    assert torch.allclose(whole.rows(slice(0, 1)), encode.encode_tokens(model, [encode.tokenize(model, "dog")]), atol=1e-6)


def test_a_long_timeline_tells_how_far_it_is_and_can_be_stopped(model):
    steps = []
    long = job(model, *TEXTS)
    encode.encode_prompts(model, long, range(len(TEXTS)), report=lambda done, of: steps.append((done, of)))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    with pytest.raises(Stopped):
        encode.encode_prompts(model, long, range(len(TEXTS)), stopping=lambda: True)


def test_a_short_timeline_is_encoded_at_once_as_it_ever_was(model):
    few = [*TEXTS[:61], TEXTS[0], TEXTS[1]]
    conditioning = encode.encode_prompts(model, job(model, *few, negative="dog"), range(63))
    tokens = model.tokenizer(["dog", *few], padding="max_length", max_length=8, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        assert torch.equal(conditioning.prompts_SLD, model.text_encoder(tokens.input_ids)[0])
