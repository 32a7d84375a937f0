"""Seeded real Wan parts at tiny sizes, as diffusers would write them: 2.1, 2.2 A14B with its two nets, TI2V-5B; from text or images."""

import json
from pathlib import Path
from typing import Literal

from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler, WanTransformer3DModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPVisionConfig, CLIPVisionModel, PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from harness.builders import randomized

WORDS = ("<pad>", "</s>", "<unk>", "a", "cat", "dog", "runs", "sleeps")
TEXT = 16  # width of an embedding
CHANNELS = 4
LOOK, LOOK_TOKENS = 20, 5  # width of a picture's token, and how many there are
Images = Literal["channels", "first", "first and last"]  # condition channels alone (2.2), or with tokens of pictures, too (2.1)
PREPROCESSOR = {
    "image_processor_type": "CLIPImageProcessor", "do_convert_rgb": True, "do_resize": True, "size": {"shortest_edge": 8}, "resample": 3,
    "do_center_crop": True, "crop_size": {"height": 8, "width": 8}, "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28],
}  # fmt: skip


def transformer(
    seed: int = 0, layers: int = 2, channels: int = CHANNELS, images: Images | None = None
) -> WanTransformer3DModel:
    looks = {} if images in (None, "channels") else {"image_dim": LOOK, "added_kv_proj_dim": 24}
    if images == "first and last":
        looks["pos_embed_seq_len"] = 2 * LOOK_TOKENS
    net = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=channels if images is None else 2 * channels + 4,
        out_channels=channels, text_dim=TEXT, freq_dim=16, ffn_dim=32, num_layers=layers, **looks,
    )  # fmt: skip
    return randomized(net, seed)


def image_encoder() -> CLIPVisionModel:
    sizes = {"hidden_size": LOOK, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return randomized(CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=8, patch_size=4)))


def vae(residual: bool = False, keen: bool = False) -> AutoencoderKLWan:
    """Return a VAE of the form of 2.1 or, residual and with patches, of 2.2's TI2V-5B; its latents are not centred.

    A random one makes nearly the same of all pictures; one that is `keen` tells them apart.
    """
    normal = {"latents_mean": [0.1, -0.2, 0.3, 0.0], "latents_std": [0.5, 2.0, 1.0, 1.5], "z_dim": CHANNELS, "base_dim": 4}
    if keen:
        normal |= {"latents_mean": [-0.1, 0.0, -0.1, -0.2], "latents_std": [0.05, 0.1, 0.06, 0.08]}
    sizes = {"in_channels": 12, "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 16, "decoder_base_dim": 4}
    sizes["is_residual"] = True  # diffusers before 0.35 knows none of these
    made = randomized(AutoencoderKLWan(**normal, **(sizes if residual else {})))
    for name, parameter in made.encoder.named_parameters():
        if keen and name.endswith("bias"):
            parameter.mul_(0.05)
    return made


def text_encoder() -> UMT5EncoderModel:
    config = UMT5Config(vocab_size=len(WORDS), d_model=TEXT, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0)
    return randomized(UMT5EncoderModel(config))


def tokenizer(length: int = 8) -> PreTrainedTokenizerFast:
    """Return a tokenizer of a few words, which puts an end behind a prompt and nothing before it."""
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    marks = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=length, **marks)


def wan_folder(
    folder: Path,
    *,
    two_nets: bool = False,
    timed: bool = False,
    images: Images | None = None,
    keen: bool = False,
    trained_frames: int | None = None,
) -> Path:
    """Write a tiny random model folder: of 2.1, of A14B with two nets, or, `timed`, of TI2V-5B; with `images` from images."""
    looks = images in ("first", "first and last")
    index = {
        "_class_name": "WanPipeline" if images is None else "WanImageToVideoPipeline",
        "boundary_ratio": 0.875 if two_nets else None,
        "expand_timesteps": timed,
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "transformer_2": ["diffusers", "WanTransformer3DModel"] if two_nets else [None, None],
        "vae": ["diffusers", "AutoencoderKLWan"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "scheduler": ["diffusers", "UniPCMultistepScheduler" if not timed else "FlowMatchEulerDiscreteScheduler"],
    }
    if looks:
        index["image_encoder"], index["image_processor"] = (
            ["transformers", "CLIPVisionModel"],
            ["transformers", "CLIPImageProcessor"],
        )
        image_encoder().save_pretrained(folder / "image_encoder")
        (folder / "image_processor").mkdir()
        (folder / "image_processor" / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    transformer(images=images).save_pretrained(folder / "transformer")
    if two_nets:
        transformer(seed=1, images=images).save_pretrained(folder / "transformer_2")
    vae(residual=timed, keen=keen).save_pretrained(folder / "vae")
    text_encoder().save_pretrained(folder / "text_encoder")
    tokenizer(512 if looks else 8).save_pretrained(folder / "tokenizer")  # a stock net with tokens of pictures counts on 512
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0) if timed else UniPCMultistepScheduler(**flow)
    scheduler.save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps(index))
    if trained_frames is not None:
        (folder / "training.json").write_text(json.dumps({"trained_frames": trained_frames}))
    return folder
