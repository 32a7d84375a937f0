"""Prompt weights as ComfyUI reads and applies them: `(word)` is 1.1 times, `(word:1.3)` 1.3, `\\(` a parenthesis."""

import math
import re

import torch

_OPENED, _CLOSED = "\x02", "\x03"  # stand for escaped parentheses; a prompt may hold no control characters
_PARENTHESIS = re.compile(r"[()]")


def read(text: str) -> list[tuple[str, float]]:
    """Return a prompt's parts with their weights, in order; a part of weight 1 only if it has none.

    As in ComfyUI a weight that is written replaces those around it, parentheses without one multiply by 1.1, and what is
    not closed, or was closed before it was opened, is text. Unlike there a weight must be finite.
    """
    text = text.replace("\\(", _OPENED).replace("\\)", _CLOSED)
    ends = _pair(text)
    parts: list[tuple[str, float]] = []
    waiting = [(0, len(text), 1.0, True)]  # begin, end, weight, may have groups: the next one last
    while waiting:
        begin, end, weight, grouped = waiting.pop()
        if grouped:
            waiting += reversed(_split(text, ends, begin, end, weight))
        else:
            parts.append((text[begin:end].replace(_OPENED, "(").replace(_CLOSED, ")"), weight))
    return parts


def _pair(text: str) -> dict[int, int]:
    """Return where each parenthesis that is closed is closed, by where it opens."""
    opened: list[int] = []
    ends: dict[int, int] = {}
    for found in _PARENTHESIS.finditer(text):
        if found[0] == "(":
            opened.append(found.start())
        elif opened:
            ends[opened.pop()] = found.start()
    return ends


def _split(text: str, ends: dict[int, int], begin: int, end: int, weight: float) -> list[tuple[int, int, float, bool]]:
    """Return the parts of a stretch: text of its weight, and the insides of its groups with theirs, to be split again."""
    parts: list[tuple[int, int, float, bool]] = []
    plain, place, surplus = begin, begin, 0  # surplus: parentheses closed that were not open; so many next ones are text
    while (found := _PARENTHESIS.search(text, place, end)) is not None:
        place = found.end()
        if found[0] == ")":
            surplus += 1
        elif surplus:
            surplus -= 1
        else:
            if plain < found.start():
                parts.append((plain, found.start(), weight, False))
            plain = found.start()
            closed = ends.get(plain, end)
            if closed >= end:  # it is left open, and all that follows is in it
                break
            parts.append(_group(text, plain, closed + 1, weight))
            plain = place = closed + 1
    if plain < end:
        is_group = end - plain >= 2 and text[plain] == "(" and text[end - 1] == ")"
        parts.append(_group(text, plain, end, weight) if is_group else (plain, end, weight, False))
    return parts


def _group(text: str, begin: int, end: int, weight: float) -> tuple[int, int, float, bool]:
    """Return a group's inside and weight; `end` is behind its closing parenthesis."""
    colon = text.rfind(":", begin + 1, end - 1)
    if colon > begin + 1:
        try:
            written = float(text[colon + 1 : end - 1])
        except ValueError:
            written = math.nan
        if math.isfinite(written):
            return begin + 1, colon, written, True
    return begin + 1, end - 1, weight * 1.1, True


def apply(tokens_SLD: torch.Tensor, empty_LD: torch.Tensor, weights_SL: torch.Tensor) -> torch.Tensor:
    """Return embeddings of which each token is so many times as far from the empty prompt's; of weight 1 as it was."""
    exact, empty = tokens_SLD.float(), empty_LD.float()
    weights = weights_SL[..., None]
    weighed = (exact - empty) * weights + empty
    return torch.where(weights == 1, exact, weighed).to(tokens_SLD.dtype)
