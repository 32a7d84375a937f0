"""Names of weights of transformers' models, whichever of its versions wrote them."""

from collections.abc import Iterable, Mapping
from typing import Any

# transformers 5 dropped these prefixes from the names of weights of CLIP's towers; a file may hold both towers.
TOWERS = {"clip_text_model": "text_model.", "clip_vision_model": "vision_model."}
# One weight of T5's encoders: files have it by one of these names, or by both, and versions of transformers want one or the other.
T5_WORDS = ("shared.weight", "encoder.embed_tokens.weight")


def tower_of(kind: Any) -> str:
    """Return what may stand before the names of weights of a class or model."""
    config = getattr(kind, "config_class", None)
    return "" if config is None else TOWERS.get(getattr(config, "model_type", ""), "")


def spelled(weights: Mapping[str, Any], wanted: Iterable[str], tower: str) -> dict[str, Any]:
    """Return weights by the names that the installed transformers wants, whichever version wrote them, with `tower` or without."""
    names = {name.removeprefix(tower): name for name in wanted}
    found = {names.get(name.removeprefix(tower), name): weight for name, weight in weights.items()}
    words = [found[name] for name in T5_WORDS if name in found]
    return {**dict.fromkeys(T5_WORDS, words[0]), **found} if words else found
