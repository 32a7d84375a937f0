"""A tokenizer out of a text encoder's file, where ComfyUI keeps one: its bytes, for the package sentencepiece."""

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

from ..families import gguf_tokenizer, single_file
from ..job.errors import JobRefused

END = 1  # the token that ends a prompt, of every T5


class SentencePieces:
    """As much of a tokenizer of transformers' as a rank uses."""

    pad_token_id = 0

    def __init__(self, vocabulary: bytes, *, length: int):
        """Take what the package calls a model; raise JobRefused if it is not installed, or can't read that."""
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError:
            raise JobRefused(f"a text encoder in one file {single_file.NO_SENTENCEPIECE}") from None
        self.model_max_length = length
        try:
            self._pieces = SentencePieceProcessor(model_proto=vocabulary)
        except (RuntimeError, TypeError, ValueError) as error:
            raise JobRefused(f"{single_file.VOCABULARY} is no tokenizer ({error}): get the text encoder's file again") from None

    def __call__(self, text: str) -> SimpleNamespace:
        """Return a text's tokens, and the one that ends it, as `input_ids`."""
        return SimpleNamespace(input_ids=[*self._pieces.encode(text), END])

    def decode(self, tokens: Iterable[int], skip_special_tokens: bool = False) -> str:
        """Return the text of some tokens."""
        return self._pieces.decode([token for token in tokens if token > 2 or not skip_special_tokens])


def read(file: Path, *, length: int) -> SentencePieces:
    """Return the tokenizer in a text encoder's file."""
    found = single_file.read(file)
    if gguf_tokenizer.is_there(found):
        return SentencePieces(gguf_tokenizer.to_sentencepiece(file), length=length)
    name = single_file.vocabulary_of(found)
    assert name is not None, "asked at the door"
    return SentencePieces(found.read_bytes(name, single_file.MAX_VOCABULARY), length=length)
