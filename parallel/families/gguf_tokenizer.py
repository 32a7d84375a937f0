"""The tokenizer that a text encoder in GGUF has in its header, checked, and the same as the package sentencepiece reads it.

The latter is a message of protocol buffers, of the fields that sentencepiece_model.proto numbers: few of them are needed.
"""

import math
import struct
from pathlib import Path
from typing import Any

from ..job.errors import JobRefused
from . import gguf_file
from .tensor_file import BROKEN, TensorFile

ROOM = "tokenizer.ggml."
TOKENS, SCORES, KINDS = f"{ROOM}tokens", f"{ROOM}scores", f"{ROOM}token_type"
NORMALIZES, LEADS, TRIMS = f"{ROOM}precompiled_charsmap", f"{ROOM}add_space_prefix", f"{ROOM}remove_extra_whitespaces"
KNOWN = {f"{ROOM}padding_token_id": "0", f"{ROOM}eos_token_id": "1", f"{ROOM}unknown_token_id": "2"}  # of every T5
BYTE = 6  # a kind of token, by the number that both formats have for it
FIRST, LAST = 1, BYTE
UNIGRAM = 1
UNKNOWN, BEGIN, END, PAD = 2, -1, 1, 0


def is_there(found: TensorFile) -> bool:
    """Say whether a file has a tokenizer of T5's kind in its header."""
    return found.metadata.get(f"{ROOM}model") == "t5"


def check(found: TensorFile, words: int) -> None:
    """Raise JobRefused unless a file's tokenizer is whole, and has no more tokens than its encoder has words."""
    tokens = found.lengths.get(TOKENS, 0)
    others = {name: found.lengths.get(name, 0) for name in (SCORES, KINDS)}
    for name, count in others.items():
        if count != tokens or not 0 < tokens <= words:
            raise JobRefused(
                f"{found.file} has a tokenizer of {tokens} tokens, {count} {name.removeprefix(ROOM)} and {words} words: wanted as many of each, "
                "and no more than words: get the file again"
            )
    for name, wanted in KNOWN.items():
        got = found.metadata.get(name, wanted)
        if got != wanted:
            raise JobRefused(f"{found.file}: {name}: wanted {wanted}, as of every T5, got {got:.20}: use another text encoder")


def to_sentencepiece(file: Path) -> bytes:
    """Return a file's tokenizer as the package sentencepiece reads it; raise JobRefused if its lists hold other than they should."""
    said = gguf_file.read_values(file, {TOKENS, SCORES, KINDS, NORMALIZES, LEADS, TRIMS})
    try:
        return _message(said)
    except BROKEN as error:
        raise JobRefused(f"{file} has a broken tokenizer ({error}): get the file again") from None


def _message(said: dict[str, Any]) -> bytes:
    pieces = []
    for token, score, kind in zip(said[TOKENS], said[SCORES], said[KINDS], strict=True):
        if not FIRST <= kind <= LAST or not math.isfinite(score):
            raise ValueError(f"a token of kind {kind}, score {score}")
        pieces.append(_bytes(1, _bytes(1, token) + _float(2, score) + _number(3, kind)))
    trained = _number(3, UNIGRAM) + _number(4, len(pieces)) + _number(35, BYTE in said[KINDS])
    special = _number(40, UNKNOWN) + _number(41, BEGIN) + _number(42, END) + _number(43, PAD)
    charsmap = bytes(value & 0xFF for value in said.get(NORMALIZES, ()))
    normalizes = _bytes(2, charsmap) + _number(3, said.get(LEADS, True)) + _number(4, said.get(TRIMS, True))
    return b"".join(pieces) + _bytes(2, trained + special) + _bytes(3, normalizes)


def _varint(value: int) -> bytes:
    """Return a number, seven bits a byte, the lowest first; one below 0 as 64 bits have it."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(int(value))


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)
