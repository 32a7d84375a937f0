"""Wan's folders in the forms that people have them in: loaded as diffusers and transformers would."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import UMT5EncoderModel

from harness import wan_builders
from parallel.families import folder
from parallel.job.errors import JobRefused
from parallel.models import table, weights
from parallel.sampler.encode import tokenize
from tests.same_model import check_same

CLASSES = {
    "transformer": WanTransformer3DModel, "transformer_2": WanTransformer3DModel, "vae": AutoencoderKLWan, "text_encoder": UMT5EncoderModel,
}  # fmt: skip
SHARDS = {"transformer": "30KB", "transformer_2": "30KB", "vae": "100KB", "text_encoder": "4KB"}  # that make several of each
WORDS = ("shared.weight", "encoder.embed_tokens.weight")
Change = Callable[[Path], object]


def says(file: str, **said) -> Change:
    return lambda model: (model / file).write_text(json.dumps({**json.loads((model / file).read_text()), **said}))


def forgets(file: str, *keys: str) -> Change:
    def change(model: Path) -> None:
        said = json.loads((model / file).read_text())
        (model / file).write_text(json.dumps({key: value for key, value in said.items() if key not in keys}))

    return change


def in_shards(part: str) -> Change:
    """As all released nets and text encoders are."""

    def change(model: Path) -> None:
        module = CLASSES[part].from_pretrained(model / part)
        next((model / part).glob("*.safetensors")).unlink()
        module.save_pretrained(model / part, max_shard_size=SHARDS[part])
        assert len(list((model / part).glob("*-of-*.safetensors"))) > 1

    return change


def words_by(*names: str) -> Change:
    """The text encoder's embeddings of words by some names."""

    def change(model: Path) -> None:
        file = model / "text_encoder" / "model.safetensors"
        held = load_file(file)
        words = next(held[name] for name in WORDS if name in held)
        rest = {name: weight for name, weight in held.items() if name not in WORDS}
        save_file({**rest, **{name: words.clone() for name in names}}, file, metadata={"format": "pt"})
        says("text_encoder/config.json", tie_word_embeddings=False)(model)

    return change


ACCEPTED: dict[str, Change] = {
    **{f"{part} in shards": in_shards(part) for part in CLASSES},
    "words by their first name": words_by(WORDS[0]),
    "words by their second name": words_by(WORDS[1]),
    "words by both names": words_by(*WORDS),
    "a VAE that does not say how it packs": forgets("vae/config.json", "scale_factor_spatial", "scale_factor_temporal", "is_residual"),
    "a net that says what it has not": says(
        "transformer/config.json", image_dim=None, added_kv_proj_dim=None, pos_embed_seq_len=None, qk_norm="rms_norm_across_heads"
    ),
    "a stored type": lambda model: [says(f"{part}/config.json", torch_dtype="bfloat16")(model) for part in CLASSES],
}  # fmt: skip


@pytest.fixture
def copy(wan, tmp_path):
    return shutil.copytree(wan, tmp_path / "model")


@pytest.fixture(scope="module")
def expected(wan):
    return table.load(folder.inspect(str(wan)), torch.float32)


@pytest.mark.parametrize("form", ACCEPTED)
def test_a_folder_that_from_pretrained_loads_is_the_same_model(copy, expected, form):
    ACCEPTED[form](copy)
    model = table.load(folder.inspect(str(copy)), torch.float32)
    check_same(model, expected, CLASSES)


def test_a_net_takes_its_weights_a_file_at_a_time(copy, monkeypatch):
    """Each call goes through all modules: a call a weight took 29 s for 40 blocks."""
    in_shards("transformer")(copy)
    calls, take = [], torch.nn.Module.load_state_dict
    monkeypatch.setattr(
        torch.nn.Module, "load_state_dict", lambda net, held, **how: (calls.append(len(held)), take(net, held, **how))[1]
    )
    weights.load_by_name(WanTransformer3DModel, copy / "transformer", torch.float32)
    assert len(calls) == len(list((copy / "transformer").glob("*.safetensors"))) < sum(calls)


def test_an_index_of_before_there_were_two_nets_is_one_of_one_net(tmp_path):
    model = wan_builders.wan_folder(tmp_path / "old")
    forgets("model_index.json", "boundary_ratio", "expand_timesteps", "transformer_2")(model)
    found = folder.inspect(str(model))
    assert found.transformer_2 is None and found.boundary_ratio is None and found.geometry.trained_frames == 81


def test_weights_in_bfloat16_are_taken_in_any_type_but_for_what_a_class_keeps_precise(copy):
    for part in CLASSES:
        (file,) = (copy / part).glob("*.safetensors")
        save_file({name: weight.bfloat16() for name, weight in load_file(file).items()}, file, metadata={"format": "pt"})
    whole, half = (table.load(folder.inspect(str(copy)), dtype) for dtype in (torch.float32, torch.bfloat16))
    stock = WanTransformer3DModel.from_pretrained(copy / "transformer", torch_dtype=torch.bfloat16)
    assert {parameter.dtype for part in (*whole.nets, whole.vae) for parameter in part.parameters()} == {torch.float32}
    types = {name: parameter.dtype for name, parameter in half.transformer.named_parameters()}
    assert types == {name: parameter.dtype for name, parameter in stock.named_parameters()}
    assert half.text_encoder.dtype == half.vae.dtype == torch.bfloat16


def unigram(place: Path, **said) -> None:
    """Write a tokenizer as released Wans have it: of T5's class, with the file of the package sentencepiece beside it."""
    words = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", -9.0),
        ("\u2581a", -1.0),
        ("\u2581cat", -2.0),
        ("\u2581", -3.0),
        ("dog", -4.0),
    ]
    made = Tokenizer(models.Unigram(words, unk_id=2))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    shutil.rmtree(place)
    place.mkdir()
    made.save(str(place / "tokenizer.json"))
    (place / "spiece.model").write_bytes(b"\n\x0a")
    marks = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    (place / "tokenizer_config.json").write_text(json.dumps({**marks, "extra_ids": 0, "model_max_length": 8, **said}))


@pytest.mark.parametrize("named", ["T5Tokenizer", "T5TokenizerFast"])
def test_a_tokenizer_of_t5s_class_is_the_one_of_its_file(copy, named):
    unigram(copy / "tokenizer", tokenizer_class=named)
    model = table.load(folder.inspect(str(copy)), torch.float32)
    assert tokenize(model, "a cat dog").numbers == [3, 4, 5, 6, 1, 0, 0, 0]
    assert tokenize(model, "a cat dog").mask == [1, 1, 1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("part", CLASSES)
def test_weights_that_are_missing_are_not_made_up(copy, part):
    (file,) = (copy / part).glob("*.safetensors")
    held = load_file(file)
    lost = sorted(name for name in held if name not in WORDS)[3]
    save_file({name: weight for name, weight in held.items() if name != lost}, file, metadata={"format": "pt"})
    with pytest.raises(JobRefused) as refused:
        table.load(folder.inspect(str(copy)), torch.float32)
    assert str(refused.value) == f"{copy / part} lacks 1 weights, such as {lost}: get the folder again"


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_a_weight_of_another_shape_than_the_configurations(copy, part):
    (file,) = (copy / part).glob("*.safetensors")
    held = load_file(file)
    name = sorted(held)[0]
    save_file({**held, name: torch.cat([held[name], held[name]])}, file, metadata={"format": "pt"})
    with pytest.raises(JobRefused, match=rf"says that {name} is \[.*\], its file holds \[.*\]: get the folder again"):
        table.load(folder.inspect(str(copy)), torch.float32)
