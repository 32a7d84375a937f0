"""Two loaded models are one: the same weights, and the same said of a prompt."""

from collections.abc import Iterable

import torch

from parallel.models.model import Model
from parallel.sampler.encode import encode_tokens, tokenize


def check_same(model: Model, expected: Model, parts: Iterable[str]) -> None:
    for part in parts:
        held, wanted = getattr(model, part).state_dict(), getattr(expected, part).state_dict()
        assert held.keys() == wanted.keys() and all(torch.equal(held[name], wanted[name]) for name in wanted)
    texts = ["a cat", "a dog"]
    ours, theirs = (encode_tokens(each, [tokenize(each, text) for text in texts]) for each in (model, expected))
    assert torch.equal(ours, theirs)
