"""A text encoder in GGUF as llama.cpp writes it, made with the package gguf: its own table of names, and a tokenizer in the header."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import gguf
import torch
from sentencepiece import SentencePieceProcessor

Weights = dict[str, torch.Tensor]
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)  # gguf.TokenType
NORMALIZER, CHARSMAP = 3, 2  # fields of sentencepiece_model.proto


def save(weights: Weights, pieces: bytes, file: Path, kinds: Sequence[str], **change: object) -> tuple[Path, Weights]:
    """Write an encoder whose matrices are of some kinds in turn where their rows allow; return the file, and its numbers.

    `change` stands in place of what the tokenizer's values would be: tokens, scores, types, eos.
    """
    writer = gguf.GGUFWriter(str(file), "t5encoder")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5ENCODER, 2)
    turns = itertools.cycle(gguf.GGMLQuantizationType[kind] for kind in kinds)
    numbers = {}
    for name, weight in weights.items():
        named = names.get_name(name.removesuffix(".weight"))
        assert named is not None, name
        kind = next(turns)
        numbers[name] = weight.float()
        if weight.ndim == 2 and weight.shape[1] % gguf.GGML_QUANT_SIZES[kind][0] == 0:
            raw = gguf.quants.quantize(weight.float().numpy(), kind)
            writer.add_tensor(f"{named}.weight", raw, raw_dtype=kind)
            numbers[name] = torch.from_numpy(gguf.quants.dequantize(raw, kind).reshape(weight.shape))
        else:
            writer.add_tensor(f"{named}.weight", weight.float().contiguous().numpy())
    _add_tokenizer(writer, pieces, words=len(weights["shared.weight"]), change=change)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file, numbers


def _add_tokenizer(writer: gguf.GGUFWriter, pieces: bytes, *, words: int, change: dict) -> None:
    """Add a tokenizer of T5's kind: what fills it up to the words of the encoder is unused."""
    read = SentencePieceProcessor(model_proto=pieces)
    tokens = [f"[PAD{number}]".encode() for number in range(words)]
    scores, types = [-10000.0] * words, [UNUSED] * words
    for number in range(read.get_piece_size()):
        tokens[number], scores[number] = read.id_to_piece(number).encode(), read.get_score(number)
        types[number] = _kind(read, number)
    writer.add_tokenizer_model("t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(change.get("tokens", tokens))
    writer.add_token_scores(change.get("scores", scores))
    writer.add_token_types(change.get("types", types))
    writer.add_add_space_prefix(True)
    writer.add_remove_extra_whitespaces(True)
    writer.add_precompiled_charsmap(charsmap(pieces))
    writer.add_eos_token_id(change.get("eos", 1))
    writer.add_pad_token_id(0)
    writer.add_unk_token_id(2)


def _kind(read: SentencePieceProcessor, number: int) -> int:
    if read.is_unknown(number):
        return UNKNOWN
    if read.is_control(number):
        return CONTROL
    return BYTE if read.is_byte(number) else NORMAL


def charsmap(pieces: bytes) -> bytes:
    """Return the table by which a tokenizer normalizes texts, out of its protocol buffer."""
    (normalizer,) = (value for field, value in fields(pieces) if field == NORMALIZER)
    (table,) = (value for field, value in fields(normalizer) if field == CHARSMAP)
    return table


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the fields of a protocol buffer that hold bytes, by their numbers."""
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            value |= (message[place] & 0x7F) << shift
            place, shift = place + 1, shift + 7
            if message[place - 1] < 0x80:
                return value

    while place < len(message):
        field, wire = divmod(varint(), 8)
        if wire == 2:
            length = varint()
            yield field, message[place : place + length]
            place += length
        elif wire == 5:
            place += 4
        else:
            assert wire == 0, wire
            varint()
