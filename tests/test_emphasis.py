"""Prompt weights: read and applied as ComfyUI does, by its own code; a prompt without them is what it was."""

import json
import random
import subprocess
import sys
import time

import pytest
import torch

from harness.comfyui import find_comfyui
from harness.places import BUNDLED, ROOT
from parallel.families.folder import inspect
from parallel.maths import emphasis
from parallel.sampler import encode, load

PROMPTS = [
    "a red circle orbiting clockwise",
    "a (red) circle",
    "a ((red)) circle, (blue:0.5) triangle",
    "((a (red:1.3) circle:0.8)) (moving",
    r"a \(red\) circle (\(:1.4)",
    "a (red:-1) :) (circle:2)",
    "(a red circle:1.0)",
    "",
]
PIECES = ["(", ")", "(", ")", "\\(", "\\)", ":", "a", "b ", "1.2", ":1.3)", ":-2", " ", "\\", ":1e1", "\n", ",", ":nano)"]


@pytest.fixture(scope="module")
def model() -> load.Model:
    return load.load(inspect(str(BUNDLED)), torch.float32)


def embeddings(model: load.Model, texts: list[str]) -> torch.Tensor:
    return encode.encode_tokens(model, [encode.tokenize(model, text) for text in texts])


def test_weights_are_read_and_applied_as_comfyui_does(model):
    """Any text, balanced or not: thousands at random; and embeddings by the bundled text encoder."""
    draw = random.Random(0)
    texts = [*PROMPTS, *("".join(draw.choices(PIECES, k=draw.randint(0, 14))) for _ in range(5000))]
    command = [sys.executable, str(ROOT / "harness" / "comfyui_prompts.py"), str(find_comfyui()), "--cpu"]
    asked = json.dumps({"folder": str(BUNDLED), "texts": texts, "prompts": PROMPTS})
    done = subprocess.run(command, input=asked, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    for text, parts in zip(texts, theirs["parts"], strict=True):
        assert emphasis.read(text) == [tuple(part) for part in parts], text
    for prompt, expected in zip(PROMPTS, theirs["embeddings"], strict=True):
        assert (embeddings(model, [prompt])[0] - torch.tensor(expected)).abs().max() < 1e-5, prompt


@pytest.mark.parametrize(
    "text, parts",
    [
        ("a cat", [("a cat", 1.0)]),
        ("", []),
        ("(a) ((b))", [("a", 1.1), (" ", 1.0), ("b", 1.1 * 1.1)]),
        ("(a (b:1.5) c:0.5)", [("a ", 0.5), ("b", 1.5), (" c", 0.5)]),
        (r"\(a\) (b:2)", [("(a) ", 1.0), ("b", 2.0)]),
        ("a (b", [("a ", 1.0), ("(b", 1.0)]),
        (":) (a)", [(":) (a)", 1.0)]),
        ("(a:nan) (b:inf)", [("a:nan", 1.1), (" ", 1.0), ("b:inf", 1.1)]),
    ],
)
def test_weights_are_read(text, parts):
    assert emphasis.read(text) == parts


def test_a_token_is_moved_away_from_the_empty_prompt_or_towards_it():
    tokens, empty = torch.tensor([[[3.0], [5.0], [7.0]]]), torch.tensor([[1.0], [1.0], [2.0]])
    weighed = emphasis.apply(tokens.half(), empty, torch.tensor([[1.0, 1.5, -1.0]]))
    assert weighed.flatten().tolist() == [3.0, 7.0, -3.0] and weighed.dtype == torch.float16


@pytest.mark.parametrize("text", ["(" * 5000 + ")" * 5000, "(" * 10_000, ")" * 10_000, ")(" * 5000, "(a:1" * 2500 + ")" * 2500])
def test_no_prompt_takes_long_to_read(text):
    """ComfyUI's own way takes the square of the depth, and one call a level."""
    began = time.perf_counter()
    emphasis.read(text)
    assert time.perf_counter() - began < 1


def test_a_prompt_without_parentheses_gives_the_numbers_that_it_gave(model, tiny):
    """Bit for bit, also beside a weighted one, and cut where it is too long."""
    for each in (model, load.load(inspect(str(tiny)), torch.float32)):
        texts = ["a cat", "", "A dog; [a|b] BREAK {c} <d> \\ 1.2", "a cat do cat dog " * 20]
        length = each.tokenizer.model_max_length
        tokens = each.tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        ours = [encode.tokenize(each, text) for text in texts]
        assert [t.numbers for t in ours] == tokens.input_ids.tolist()
        assert [t.mask for t in ours] == tokens.attention_mask.tolist()
        with torch.inference_mode():
            assert torch.equal(encode.encode_tokens(each, ours), each.text_encoder(tokens.input_ids)[0])


def test_a_weight_of_one_and_an_escape_change_nothing(model):
    plain = embeddings(model, ["a red circle", "a (red) circle (orbiting)"])
    assert torch.equal(embeddings(model, ["a (red:1.0) circle", r"a \(red\) circle (orbiting:1.1)"])[0], plain[0])
    weighed = embeddings(model, ["a red (circle:1.5)", "a red circle"])
    tokens = encode.tokenize(model, "a red (circle:1.5)")
    moved = (weighed[0] != weighed[1]).any(-1)
    assert moved.tolist() == [weight != 1 for weight in tokens.weights]
