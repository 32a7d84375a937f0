"""Wan from the files that people have: the video of the diffusers folder of the same numbers."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel

from harness import umt5_gguf, wan_files, wan_gguf, wan_original
from harness.jobs import job
from harness.tiny_files import Tiny, text_weights, tiny_files
from harness.wan_builders import PREPROCESSOR
from parallel.families import folder, wan_parts
from parallel.families.wan_configs import TIMED_MEAN, TIMED_STD
from parallel.job.errors import JobRefused
from parallel.job.files import ModelFiles
from parallel.job.job import Keyframe
from parallel.layers.held import HeldLinear
from parallel.models import sentence_pieces, table, weights
from parallel.sampler.encode import encode_tokens, tokenize


def plain(
    tiny: Tiny, name: str, change: Callable[[dict], dict], dtype: torch.dtype = torch.float32, **metadata: str
) -> tuple[str, dict]:
    """Write a net's file; return it, and the numbers that it holds."""
    numbers = {key: weight.to(dtype) for key, weight in tiny.net.items()}
    return str(wan_files.save(change(numbers), tiny.place / f"{name}.safetensors", **metadata)), numbers


def low(tiny: Tiny, name: str, spell: Callable, prefix: str = "", **metadata: str) -> tuple[str, dict]:
    held_low, scales = wan_files.scaled(tiny.net)
    file = wan_files.save(
        spell(wan_files.net_names(held_low), wan_files.net_names(scales), prefix),
        tiny.place / f"{name}.safetensors",
        **metadata,
    )
    return str(file), wan_files.read_scaled(held_low, scales)


def in_header(tiny: Tiny) -> tuple[str, dict]:
    _, scales = wan_files.scaled(tiny.net)
    said = wan_files.quantization_metadata(wan_files.net_names(scales))
    return low(tiny, "header", wan_files.spelled_by_header, _quantization_metadata=said)


FORMS: dict[str, Callable[[Tiny], tuple[str, dict]]] = {
    "float32": lambda tiny: plain(tiny, "float32", wan_files.net_names),
    "bfloat16, with a checkpoint's prefix": lambda tiny: plain(
        tiny, "bfloat16", lambda held: wan_files.net_names(held, "model.diffusion_model."), torch.bfloat16
    ),
    "float16, with a LoRA's prefix": lambda tiny: plain(
        tiny, "float16", lambda held: wan_files.net_names(held, "diffusion_model."), torch.float16
    ),
    "diffusers' own names": lambda tiny: plain(tiny, "diffusers", dict),
    "fp8": lambda tiny: (
        str(wan_files.save(wan_files.net_names(wan_files.in_fp8(tiny.net)), tiny.place / "fp8.safetensors")),
        wan_files.in_fp8(tiny.net),
    ),
    "scaled fp8, first spelling": lambda tiny: low(tiny, "old", wan_files.spelled_old, "model.diffusion_model."),
    "scaled fp8, second spelling": lambda tiny: low(tiny, "layers", wan_files.spelled_by_layer),
    "scaled fp8, third spelling": in_header,
}  # fmt: skip


# Weights are compared to the last bit. What a CPU makes of the same ones depends on where in memory they begin, as they lie in files.
NOISE = 2e-5
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]  # of CLIP's makers


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tiny:
    return tiny_files(tmp_path_factory.mktemp("single"))


def numbers_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a model's weights; of layers that hold theirs as a file has them, what they become."""
    held = dict(module.named_parameters(remove_duplicate=False))
    return held | {f"{name}.weight": layer.weight for name, layer in module.named_modules() if isinstance(layer, HeldLinear)}


def check_same_numbers(
    file: str, files: ModelFiles, twin: str, parts: tuple[str, ...] = ("transformer", "vae", "text_encoder")
) -> None:
    ours, theirs = table.load(folder.inspect(file, files=files), torch.float32), table.load(folder.inspect(twin), torch.float32)
    for part in parts:
        held, wanted = numbers_of(getattr(ours, part)), numbers_of(getattr(theirs, part))
        assert held.keys() == wanted.keys()
        assert all(torch.equal(held[name], wanted[name]) for name in wanted)


def check_net(file: str, files: ModelFiles, numbers: dict[str, torch.Tensor]) -> None:
    net = folder.inspect(file, files=files).transformer
    held = numbers_of(weights.load_by_name(WanTransformer3DModel, net, torch.float32))
    assert held.keys() == numbers.keys()
    assert all(torch.equal(held[name], weight.float()) for name, weight in numbers.items())


@pytest.mark.parametrize("form", FORMS)
def test_a_net_in_one_file_has_the_numbers_of_its_format(tiny, form):
    file, numbers = FORMS[form](tiny)
    check_net(file, tiny.files, numbers)


@pytest.mark.parametrize("form", ["float32", "scaled fp8, third spelling"])
def test_the_video_of_files_is_that_of_the_folder_of_their_numbers(tiny, pools, form):
    file, numbers = FORMS[form](tiny)
    twin = tiny.twin(form.replace(" ", "-"), transformer=numbers)
    check_same_numbers(file, tiny.files, twin)
    ours = pools(1).run(job(file, files=tiny.files, decode=False)).latents
    stock = pools(1).run(job(twin, decode=False)).latents
    assert (ours - stock).abs().max() < NOISE


def test_scaled_fp8_is_as_far_from_what_it_was_made_of_as_its_format_rounds(tiny):
    """Half of the last of fp8's 3 bits, or of its smallest step."""
    _, numbers = FORMS["scaled fp8, first spelling"](tiny)
    _, scales = wan_files.scaled(tiny.net)
    for name, scale in scales.items():
        apart = (numbers[name] - tiny.net[name]).abs()
        assert (apart <= (tiny.net[name].abs() * 2.0**-4).clamp(min=float(scale) * 2.0**-10) * 1.001).all()


def test_a_scale_that_is_left_out_shows(tiny, pools):
    """Else none of the above would tell whether scales are read."""
    held_low, _ = wan_files.scaled(tiny.net)
    bare = wan_files.save(wan_files.net_names(held_low), tiny.place / "bare.safetensors")
    file, _ = FORMS["scaled fp8, second spelling"](tiny)
    ours, without = (pools(1).run(job(each, files=tiny.files, decode=False)).latents for each in (file, str(bare)))
    assert (ours - without).abs().max() > 0.1


def test_quantized_weights_stay_as_they_are_in_the_file(tiny):
    file, _ = FORMS["scaled fp8, first spelling"](tiny)
    model = folder.inspect(file, files=tiny.files)
    net = table.load(model, torch.bfloat16).transformer
    stored = [layer.stored for layer in net.modules() if isinstance(layer, HeldLinear)]
    assert len(stored) == 2 * 10 and {each.dtype for each in stored} == {torch.float8_e4m3fn}
    assert sum(weight.bytes for weight in model.transformer.held.values()) == sum(each.numel() + 4 for each in stored)
    assert model.transformer.plain_numbers == sum(parameter.numel() for parameter in net.parameters())


def test_a_gguf_net_has_the_numbers_that_the_package_gguf_reads_in_it(tiny):
    """Of all kinds, as in a file called Q4_K_M."""
    file, numbers = wan_gguf.save(wan_files.net_names(tiny.net), tiny.place / "mixed.gguf", wan_gguf.KINDS)
    names = dict(zip(wan_files.net_names({name: name for name in tiny.net}), tiny.net))
    check_net(str(file), tiny.files, {names[name]: weight for name, weight in numbers.items()})
    assert folder.inspect(str(file), files=tiny.files).transformer.held


def test_a_net_of_5b_and_its_vae(tiny, pools):
    """Whose layers its makers nest: 2.2's names."""
    latents = {"latents_mean": TIMED_MEAN, "latents_std": TIMED_STD}
    parts = {**tiny.parts, "transformer": wan_files.net(channels=48), "vae": wan_files.vae(timed=True, **latents)}
    twin = wan_files.folder(tiny.place / "twin-5b", parts=parts, pieces=tiny.pieces, shift=5.0, expand_timesteps=True)
    net = wan_files.save(wan_files.net_names(parts["transformer"].state_dict()), tiny.place / "5b.safetensors")
    vae = wan_files.save(wan_files.timed_vae_names(parts["vae"].state_dict()), tiny.place / "vae-2.2.safetensors")
    files = tiny.files.model_copy(update={"vae": str(vae)})
    check_same_numbers(str(net), files, str(twin))
    size = {"height": 32, "width": 32}
    ours, stock = (pools(1).run(each) for each in (job(net, files=files, **size), job(twin, **size)))
    assert (ours.latents - stock.latents).abs().max() < NOISE and (ours.frames - stock.frames).abs().max() < NOISE


@pytest.mark.parametrize("condition", [0, 20])
def test_two_files_are_the_two_nets_of_a14b(tiny, condition):
    high, low = (wan_files.net(seed, condition=condition) for seed in (0, 1))
    files = [
        wan_files.save(wan_files.net_names(net.state_dict()), tiny.place / f"{name}{condition}.safetensors")
        for name, net in (("high", high), ("low", low))
    ]
    parts = {**tiny.parts, "transformer": high, "transformer_2": low}
    twin = wan_files.folder(
        tiny.place / f"a14b{condition}", parts=parts, pieces=tiny.pieces, boundary_ratio=0.9 if condition else 0.875
    )
    chosen = tiny.files.model_copy(update={"model_low": str(files[1])})
    check_same_numbers(str(files[0]), chosen, str(twin), ("transformer", "transformer_2"))
    found, expected = folder.inspect(str(files[0]), files=chosen), folder.inspect(str(twin))
    places = {"transformer", "transformer_2", "vae", "text_encoder", "tokenizer", "scheduler"}
    assert found.model_dump(exclude=places) == expected.model_dump(exclude=places)


@pytest.mark.parametrize("pictures", [1, 2])
def test_a_net_of_2_1_from_images_and_the_vision_tower_that_it_wants(tiny, pools, pictures):
    sizes = {"image_dim": wan_files.LOOK, "added_kv_proj_dim": 256}
    if pictures == 2:
        sizes["pos_embed_seq_len"] = 2 * wan_files.LOOK_TOKENS
    parts = {**tiny.parts, "transformer": wan_files.net(condition=20, **sizes), "image_encoder": wan_files.image_encoder()}
    twin = wan_files.folder(tiny.place / f"i2v{pictures}", parts=parts, pieces=tiny.pieces)
    (twin / "image_processor").mkdir()
    said = {**PREPROCESSOR, "image_mean": CLIP_MEAN, "image_std": CLIP_STD}
    (twin / "image_processor" / "preprocessor_config.json").write_text(json.dumps(said))
    net = tiny.write(f"i2v{pictures}", wan_files.net_names(parts["transformer"].state_dict()))
    held = {
        f"vision_model.{name.removeprefix('vision_model.')}": each for name, each in parts["image_encoder"].state_dict().items()
    }
    tower = tiny.write("tower", {**held, "visual_projection.weight": torch.zeros(4, wan_files.LOOK)})
    files = tiny.files.model_copy(update={"clip_vision": tower})
    check_same_numbers(net, files, str(twin), ("transformer", "image_encoder"))
    keyframes = tuple(Keyframe(frame=frame) for frame in (0, 8)[:pictures])
    pixels = torch.rand(pictures, 16, 16, 3)
    wishes = [job(each, files=some, keyframes=keyframes, decode=False) for each, some in ((net, files), (twin, ModelFiles()))]
    ours, stock = (pools(1).run(wish, keyframes=pixels).latents for wish in wishes)
    assert (ours - stock).abs().max() < NOISE
    blind = job(net, files=tiny.files, keyframes=keyframes, decode=False)
    tokens = table.load(folder.inspect(net, files=files), torch.float32).look(pixels)
    assert (pools(1).run(blind, keyframes=pixels, picture_tokens=tokens).latents - ours).abs().max() < NOISE
    with pytest.raises(JobRefused, match=r"is without CLIP's vision tower, whose tokens .*: give it, too .* or connect clip_"):
        pools(1).run(blind, keyframes=pixels)
    with pytest.raises(
        JobRefused, match=rf"wanted \({pictures}, (tokens|5), 80\), those of the first .* got \({pictures}, 5, 79\)"
    ):
        pools(1).run(blind, keyframes=pixels, picture_tokens=tokens[:, :, 1:])


def test_a_text_encoder_in_scaled_fp8_says_the_same_as_its_numbers(tiny):
    held = tiny.parts["text_encoder"].state_dict()
    held_low, scales = wan_files.scaled(held, wan_files.matrices(held))
    held_low.pop("encoder.embed_tokens.weight")
    vocabulary = text_weights(tiny.parts["text_encoder"], tiny.pieces)["spiece_model"]
    file = wan_files.save(
        {**wan_files.spelled_old(held_low, scales), "spiece_model": vocabulary}, tiny.place / "text-fp8.safetensors"
    )
    encoder = wan_files.text_encoder(held["shared.weight"].shape[0])
    encoder.load_state_dict(wan_files.read_scaled(held_low, scales), strict=False)
    twin = wan_files.folder(tiny.place / "twin-text", parts={**tiny.parts, "text_encoder": encoder}, pieces=tiny.pieces)
    net, _ = FORMS["float32"](tiny)
    files = tiny.files.model_copy(update={"text_encoder": str(file)})
    check_same_numbers(net, files, str(twin))
    models = [table.load(each, torch.float32) for each in (folder.inspect(net, files=files), folder.inspect(str(twin)))]
    ours, theirs = (encode_tokens(model, [tokenize(model, "a dog runs in the rain")]) for model in models)
    assert (ours - theirs).abs().max() < NOISE


TEXTS = ("a dog runs in the rain", "  rain  and\twind ", "\uff41 c\u00e0t r\ufb01ns", "zebra \u4e2d", "")


def text_gguf(tiny, name: str, **change) -> tuple[ModelFiles, dict[str, torch.Tensor]]:
    """Return files whose text encoder is one in GGUF, with words that its tokenizer has not, and its numbers."""
    encoder = wan_files.text_encoder(len(wan_files.tokenizer(tiny.pieces)) + 3)
    held = {key: each for key, each in encoder.state_dict().items() if key != "encoder.embed_tokens.weight"}
    file, numbers = umt5_gguf.save(held, tiny.pieces, tiny.place / f"{name}.gguf", ("Q8_0", "Q4_0", "BF16"), **change)
    return tiny.files.model_copy(update={"text_encoder": str(file)}), numbers


def test_a_text_encoder_in_gguf_says_the_same_as_its_numbers_in_a_folder(tiny, monkeypatch):
    monkeypatch.setattr("parallel.models.single_file.BLOCKS_AT_A_TIME", 100)  # of some 300 of the table of words
    files, numbers = text_gguf(tiny, "text")
    encoder = wan_files.text_encoder(len(numbers["shared.weight"]))
    encoder.load_state_dict(numbers, strict=False)
    twin = wan_files.folder(tiny.place / "twin-gguf", parts={**tiny.parts, "text_encoder": encoder}, pieces=tiny.pieces)
    net, _ = FORMS["float32"](tiny)
    ours, theirs, spiece = (
        table.load(folder.inspect(each, files=some), torch.float32)
        for each, some in ((net, files), (str(twin), ModelFiles()), (net, tiny.files))
    )
    assert folder.roles_in(files.text_encoder) == {"text_encoder"} and ours.folder.text_encoder.held
    assert ours.text_encoder.shared.weight is ours.text_encoder.encoder.embed_tokens.weight
    assert [ours.tokenizer(text).input_ids for text in TEXTS] == [spiece.tokenizer(text).input_ids for text in TEXTS]
    tokens = [tokenize(ours, "a dog runs in the rain")]
    assert (encode_tokens(ours, tokens) - encode_tokens(theirs, tokens)).abs().max() < NOISE


def test_a_tokenizer_in_gguf_has_tokens_for_bytes_if_its_own_has(tiny):
    """As that of UMT5: of a letter that it does not know, one for each byte."""
    pieces = wan_files.vocabulary(296, byte_fallback=True)
    words = {"shared.weight": torch.zeros(300, 32)}
    file, _ = umt5_gguf.save(words, pieces, tiny.place / "bytes.gguf", ("BF16",))
    read, expected = sentence_pieces.read(file, length=512), sentence_pieces.SentencePieces(pieces, length=512)
    assert [read(text).input_ids for text in TEXTS] == [expected(text).input_ids for text in TEXTS]
    assert len(read("\u4e2d").input_ids) == 1 + 3 + 1


@pytest.mark.parametrize(
    "change, said",
    [
        ({"scores": [0.0] * 3}, r"tokens, 3 scores and \d+ words: wanted as many of each"),
        ({"types": [1] * 1000}, r"tokens, 1000 token_type and \d+ words: wanted as many of each"),
        (
            {"tokens": [b"a"] * 500, "scores": [0.0] * 500, "types": [1] * 500},
            "500 tokens, 500 scores and .* no more than words",
        ),
        ({"eos": 5}, "tokenizer.ggml.eos_token_id: wanted 1, as of every T5, got 5: use another text encoder"),
    ],
)
def test_a_tokenizer_in_gguf_that_is_not_whole_is_refused_at_the_door(tiny, change, said):
    files, _ = text_gguf(tiny, "broken", **change)
    with pytest.raises(JobRefused, match=said):
        folder.inspect(FORMS["float32"](tiny)[0], files=files)


@pytest.mark.parametrize("change", [{"types": 9}, {"scores": float("nan")}, {"types": 1}])
def test_a_tokenizer_in_gguf_of_odd_tokens_is_refused_when_it_is_read(tiny, change):
    """The last has none for what is unknown."""
    words = len(wan_files.tokenizer(tiny.pieces)) + 3
    files, _ = text_gguf(tiny, "odd", **{name: [value] * words for name, value in change.items()})
    with pytest.raises(
        JobRefused, match=r"(has a broken tokenizer|is no tokenizer) \(.*: get the (text encoder's )?file again"
    ):
        sentence_pieces.read(Path(files.text_encoder), length=512)


def test_a_checkpoint_that_holds_all_parts_is_a_model_by_itself(tiny):
    text = text_weights(tiny.parts["text_encoder"], tiny.pieces)
    whole = {
        **wan_files.net_names(tiny.net, "model.diffusion_model."),
        **{f"vae.{name}": each for name, each in wan_original.original_names(tiny.parts["vae"].state_dict()).items()},
        "text_encoders.umt5xxl.spiece_model": text.pop("spiece_model"),
        **{f"text_encoders.umt5xxl.transformer.{name}": each for name, each in text.items()},
    }
    file = tiny.write("whole", whole)
    check_same_numbers(file, ModelFiles(), tiny.twin("whole"))
    assert folder.roles_in(file) == {"model", "vae", "text_encoder"}
    words = [
        table.load(folder.inspect(file, files=files), torch.float32).tokenizer("a cat runs").input_ids
        for files in (ModelFiles(), tiny.files)
    ]
    assert words[0] == words[1]


def test_a_folder_of_parts_that_has_pickles_is_refused(tiny):
    net, _ = FORMS["float32"](tiny)
    pickled = Path(tiny.twin("pickled"))
    weights_file = pickled / "vae" / "diffusion_pytorch_model.safetensors"
    weights_file.rename(weights_file.with_suffix(".bin"))
    with pytest.raises(JobRefused, match="has only pickled weights, which can run code"):
        folder.inspect(net, str(pickled))


def test_without_a_text_encoder_prompts_come_encoded_or_are_refused(tiny, pools):
    net, _ = FORMS["float32"](tiny)
    bare = tiny.files.model_copy(update={"text_encoder": None})
    model = table.load(folder.inspect(net, files=tiny.files), torch.float32)
    wish = job(net, files=tiny.files, decode=False)
    expected = pools(2).run(wish).latents
    texts = encode_tokens(model, [tokenize(model, text) for text in wish.texts])
    without = wish.model_copy(update={"files": bare})
    got = pools(2).run(without, embeddings=texts)
    assert (got.latents - expected).abs().max() < NOISE
    with pytest.raises(JobRefused, match="is without its text encoder: give it, too"):
        pools(2).run(without)
    decoded = pools(2).run(without.model_copy(update={"num_inference_steps": 0, "decode": True}))
    assert decoded.frames.shape == (9, 16, 16, 3), "a job that only decodes wants none"


def test_a_tokenizer_that_nothing_reads_is_missed_at_the_door(tiny, monkeypatch):
    net, _ = FORMS["float32"](tiny)
    monkeypatch.setattr(wan_parts, "find_spec", lambda name: None)
    with pytest.raises(JobRefused, match="needs the package sentencepiece for its tokenizer: install it"):
        folder.inspect(net, files=tiny.files)
    twin = tiny.twin("with-tokenizer")
    assert folder.inspect(net, twin, tiny.files).tokenizer == Path(twin) / "tokenizer"


def test_two_ranks_make_the_same_video_from_quantized_files(tiny, pools):
    file, _ = FORMS["scaled fp8, third spelling"](tiny)
    one, two = (pools(size).run(job(file, files=tiny.files, frames=13, fps=8.0)) for size in (1, 2))
    assert (one.latents - two.latents).abs().max() <= 1e-4
    assert (one.frames - two.frames).abs().max() <= 1e-4
