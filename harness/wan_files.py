"""A tiny random Wan in the files that people have, written here from the definitions of their formats, and its twin as a folder.

What a file's numbers are is written into the twin, so that both must make the same latents. Names and formats are this writer's own:
nothing of the engine has a part in them.
"""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPVisionConfig, CLIPVisionModel, PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from harness.builders import randomized

Weights = dict[str, torch.Tensor]
TEXT = 256
TIMED_CHANNELS = 48
LOOK, LOOK_TOKENS = 80, 5  # width of a picture's token, and how many there are
SENTENCES = ["a cat runs", "a dog sleeps", "the cat sleeps", "a dog runs in the rain", "rain and wind", "a red circle"]
# diffusers' names of a net's layers -> those of its makers, in the order in which they are tried.
NET = (
    (r"^condition_embedder\.time_embedder\.linear_1", "time_embedding.0"),
    (r"^condition_embedder\.time_embedder\.linear_2", "time_embedding.2"),
    (r"^condition_embedder\.text_embedder\.linear_1", "text_embedding.0"),
    (r"^condition_embedder\.text_embedder\.linear_2", "text_embedding.2"),
    (r"^condition_embedder\.time_proj", "time_projection.1"),
    (r"^condition_embedder\.image_embedder\.norm1", "img_emb.proj.0"),
    (r"^condition_embedder\.image_embedder\.ff\.net\.0\.proj", "img_emb.proj.1"),
    (r"^condition_embedder\.image_embedder\.ff\.net\.2", "img_emb.proj.3"),
    (r"^condition_embedder\.image_embedder\.norm2", "img_emb.proj.4"),
    (r"^condition_embedder\.image_embedder\.pos_embed", "img_emb.emb_pos"),
    (r"\.attn2\.add_([kv])_proj\.", r".cross_attn.\1_img."),
    (r"\.attn2\.norm_added_k\.", ".cross_attn.norm_k_img."),
    (r"^proj_out", "head.head"),
    (r"^scale_shift_table", "head.modulation"),
    (r"scale_shift_table$", "modulation"),
    (r"\.norm2\.", ".norm3."),
    (r"\.ffn\.net\.0\.proj\.", ".ffn.0."),
    (r"\.ffn\.net\.2\.", ".ffn.2."),
    (r"\.attn1\.", ".self_attn."),
    (r"\.attn2\.", ".cross_attn."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.to_out\.0\.", ".o."),
)


def net(seed: int = 0, channels: int = 16, condition: int = 0, **sizes: int) -> WanTransformer3DModel:
    usual = {"attention_head_dim": 128, "ffn_dim": 256, "text_dim": TEXT, "freq_dim": 16, "num_layers": 2}
    channel = {"in_channels": channels + condition, "out_channels": channels}
    return randomized(WanTransformer3DModel(num_attention_heads=2, **channel, **{**usual, **sizes}), seed)


def image_encoder() -> CLIPVisionModel:
    sizes = {
        "hidden_size": LOOK,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "hidden_act": "gelu",
    }
    return randomized(CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=8, patch_size=4)))


def vae(timed: bool = False, **latents: list[float]) -> AutoencoderKLWan:
    if timed:
        sizes = {"z_dim": TIMED_CHANNELS, "in_channels": 12, "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 16}
        return randomized(AutoencoderKLWan(**sizes, **latents, base_dim=4, decoder_base_dim=8, is_residual=True))
    return randomized(AutoencoderKLWan(base_dim=4))


def text_encoder(words: int) -> UMT5EncoderModel:
    config = UMT5Config(
        vocab_size=words, d_model=TEXT, d_kv=8, d_ff=256, num_layers=2, num_heads=2, dropout_rate=0.0, tie_word_embeddings=False
    )
    return randomized(UMT5EncoderModel(config))


def vocabulary(size: int = 40, *, byte_fallback: bool = False) -> bytes:
    """Return a tokenizer's bytes, as text encoders' files have them, trained on a few sentences."""
    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20), model_writer=out, vocab_size=size, byte_fallback=byte_fallback, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    return out.getvalue()


def tokenizer(pieces: bytes) -> PreTrainedTokenizerFast:
    """Return the same tokenizer as a diffusers folder has it."""
    from sentencepiece import SentencePieceProcessor

    read = SentencePieceProcessor(model_proto=pieces)
    words = [(read.id_to_piece(number), read.get_score(number)) for number in range(read.get_piece_size())]
    made = Tokenizer(models.Unigram(words, unk_id=2))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=512, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def net_names(weights: Weights, prefix: str = "") -> Weights:
    """Return a net's weights by its makers' names."""
    renamed = {}
    for name, weight in weights.items():
        for old, new in NET:
            name = re.sub(old, new, name)
        renamed[prefix + name] = weight
    return renamed


def timed_vae_names(weights: Weights) -> Weights:
    """Return the weights of a VAE of 2.2 by its makers' names, which nest a level's layers."""
    renamed = {}
    for name, weight in weights.items():
        for side, row in (("down", "downsamples"), ("up", "upsamples")):
            count = 2 if side == "down" else 3  # residual blocks of a level, behind which what resamples stands
            name = re.sub(rf"\.{side}_blocks\.(\d)\.resnets\.(\d)\.", rf".{row}.\1.{row}.\2.", name)
            name = re.sub(rf"\.{side}_blocks\.(\d)\.{side}sampler\.", rf".{row}.\1.{row}.{count}.", name)
        name = re.sub(r"^quant_conv\.", "conv1.", re.sub(r"^post_quant_conv\.", "conv2.", name))
        name = re.sub(r"mid_block\.resnets\.(\d)\.", lambda found: f"middle.{2 * int(found[1])}.", name)
        name = name.replace("mid_block.attentions.0.", "middle.1.")
        if ".middle." in name or "samples." in name:
            for old, new in (
                ("norm1", "residual.0"),
                ("conv1", "residual.2"),
                ("norm2", "residual.3"),
                ("conv2", "residual.6"),
            ):
                name = re.sub(rf"\.{old}\.", f".{new}.", name)
            name = name.replace(".conv_shortcut.", ".shortcut.")
        for old, new in (("conv_in", "conv1"), ("norm_out", "head.0"), ("conv_out", "head.2")):
            name = re.sub(rf"^(encoder|decoder)\.{old}\.", rf"\1.{new}.", name)
        renamed[name] = weight
    return renamed


def folder(place: Path, *, parts: dict[str, torch.nn.Module], pieces: bytes, shift: float = 3.0, **index: object) -> Path:
    """Write parts as a diffusers folder: the twin of files of the same weights."""
    for name, part in parts.items():
        part.save_pretrained(place / name)
    tokenizer(pieces).save_pretrained(place / "tokenizer")
    UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift).save_pretrained(
        place / "scheduler"
    )
    (place / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline", **index}))
    return place


def save(weights: Weights, file: Path, **metadata: str) -> Path:
    save_file(
        {name: weight.detach().contiguous() for name, weight in weights.items()}, file, metadata={"format": "pt", **metadata}
    )
    return file


def linears(weights: Weights) -> list[str]:
    """Return the names of a net's weights that files in fp8 have in fp8: the blocks' matrices."""
    return [name for name, weight in weights.items() if re.match(r"blocks\.\d+\..*\.weight$", name) and weight.ndim == 2]


def in_fp8(weights: Weights, change: Callable[[str], str] = str) -> Weights:
    """Return weights of which matrices are in fp8, without a scale."""
    named = set(linears(weights))
    return {change(name): weight.to(torch.float8_e4m3fn) if name in named else weight for name, weight in weights.items()}


def matrices(weights: Weights) -> list[str]:
    """Return the names of a text encoder's weights that files in fp8 have in fp8."""
    return [name for name, weight in weights.items() if re.search(r"\.(q|k|v|o|wi_0|wi_1|wo)\.weight$", name)]


def scaled(weights: Weights, named: list[str] | None = None) -> tuple[Weights, Weights]:
    """Return weights of which matrices are in fp8, and their scales by the same names: a matrix's largest number becomes 448."""
    low, scales = {}, {}
    chosen = linears(weights) if named is None else named
    for name, weight in weights.items():
        low[name] = weight
        if name in chosen:
            scales[name] = weight.abs().max().float() / 448
            low[name] = (weight / scales[name]).to(torch.float8_e4m3fn)
    return low, scales


def read_scaled(low: Weights, scales: Weights) -> Weights:
    """Return the numbers that scaled weights stand for."""
    return {name: weight.float() * scales[name] if name in scales else weight for name, weight in low.items()}


def spelled_old(low: Weights, scales: Weights, prefix: str = "") -> Weights:
    """Return scaled weights in the first spelling: a mark, and `.scale_weight`."""
    named = {prefix + name.removesuffix("weight") + "scale_weight": scale.reshape(1) for name, scale in scales.items()}
    inputs = {prefix + name.removesuffix("weight") + "scale_input": torch.ones(1) for name in scales}
    return {
        **{prefix + name: weight for name, weight in low.items()},
        **named,
        **inputs,
        prefix + "scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn),
    }


def spelled_by_layer(low: Weights, scales: Weights, prefix: str = "") -> Weights:
    """Return scaled weights in the second spelling: each layer says how it is quantized, and has a `.weight_scale`."""
    marked = spelled_by_header(low, scales, prefix)
    said = torch.tensor(list(json.dumps({"format": "float8_e4m3fn"}).encode()), dtype=torch.uint8)
    return {**marked, **{prefix + name.removesuffix("weight") + "comfy_quant": said.clone() for name in scales}}


def spelled_by_header(low: Weights, scales: Weights, prefix: str = "") -> Weights:
    """Return scaled weights in the third: the file's header has `quantization_metadata` for them."""
    named = {prefix + name.removesuffix("weight") + "weight_scale": scale for name, scale in scales.items()}
    return {**{prefix + name: weight for name, weight in low.items()}, **named}


def quantization_metadata(scales: Weights, prefix: str = "") -> str:
    layers = {prefix + name.removesuffix(".weight"): {"format": "float8_e4m3fn"} for name in scales}
    return json.dumps({"format_version": "1.0", "layers": layers})
