"""The small Wan model's parts, untrained, and the folder that they make when trained."""

import json
from pathlib import Path

from diffusers import (
    AutoencoderKLWan,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import T5TokenizerFast, UMT5Config, UMT5EncoderModel

from scripts.shapes import Scene, all_kinds

FRAMES = 33  # of a clip
LATENTS = 9  # of a clip: one of its first frame alone, then one of every four
CHANNELS = 16
TOKENS = 32  # that a tokenizer allows a caption


def build_vae() -> AutoencoderKLWan:
    """Return a VAE of 4n+1 frames of 64x64 pixels to n+1 latents of 8x8x16, in the residual form of Wan 2.2.

    Its convolutions see patches of 2x2 pixels: at full resolution they would take four times as long.
    """
    return AutoencoderKLWan(
        base_dim=16,
        z_dim=CHANNELS,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        latents_mean=[0.0] * CHANNELS,
        latents_std=[1.0] * CHANNELS,
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_temporal=4,
        scale_factor_spatial=8,
    )


def build_transformer(of_images: bool) -> WanTransformer3DModel:
    """Return the transformer, of 1.6 million parameters.

    One of images has the condition channels of Wan 2.2's image-to-video: four of a mask, and those of the encoded images.
    """
    return WanTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=32,
        in_channels=CHANNELS + (4 + CHANNELS if of_images else 0),
        out_channels=CHANNELS,
        text_dim=64,
        freq_dim=128,
        ffn_dim=512,
        num_layers=5,
    )


def build_tokenizer() -> T5TokenizerFast:
    """Build T5's unigram tokenizer, in which every caption word is one token and other words are spelt out."""
    words = sorted({word for kind in all_kinds() for word in Scene(*kind).caption.split()})
    letters = [chr(code) for code in range(33, 127)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -5.0)]
    pieces += [(f"\u2581{word}", -1.0) for word in words] + [(letter, -10.0) for letter in letters]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=TOKENS)


# What this pack asks a folder (parallel/families/wan_index.py); diffusers does not look at it.
TRAINING = {"trained_frames": 33, "fps": 8, "size": [64, 64], "guidance_scale": 4.0}


def build_text_encoder(tokenizer: T5TokenizerFast) -> UMT5EncoderModel:
    """Return a text encoder of two layers and width 64."""
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=len(tokenizer),
            d_model=64,
            d_kv=16,
            d_ff=128,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Return the scheduler: Euler's steps of a flow, of which a shift of 3 spends more at high noise, where motion is settled."""
    return FlowMatchEulerDiscreteScheduler(shift=3.0)


def export(
    vae: AutoencoderKLWan, tokenizer: T5TokenizerFast, encoder: UMT5EncoderModel, transformer: WanTransformer3DModel, out: Path
) -> None:
    """Write a folder that the stock pipeline loads: float16, but for the text encoder, whose stored type transformers keeps.

    It says `expand_timesteps`, as Wan 2.2's TI2V-5B does: the transformer was taught to take a time for each latent.
    """
    parts = {"tokenizer": tokenizer, "text_encoder": encoder, "scheduler": build_scheduler()}
    write(WanPipeline(**parts, vae=vae.half(), transformer=transformer.half(), expand_timesteps=True), out)


def export_for_images(
    vae: AutoencoderKLWan, tokenizer: T5TokenizerFast, encoder: UMT5EncoderModel, transformer: WanTransformer3DModel, out: Path
) -> None:
    """Write a folder that the stock pipeline for images loads, in the form of Wan 2.2's image-to-video, but with one net."""
    parts = {"tokenizer": tokenizer, "text_encoder": encoder, "scheduler": build_scheduler()}
    write(WanImageToVideoPipeline(**parts, vae=vae.half(), transformer=transformer.half()), out)


def write(pipeline: DiffusionPipeline, out: Path) -> None:
    """Write a pipeline's folder, and what the models were trained on."""
    pipeline.save_pretrained(out, safe_serialization=True)
    write_for_all(out)
    (out / "training.json").write_text(json.dumps(TRAINING, indent=2) + "\n")


def write_for_all(out: Path) -> None:
    """Rewrite what transformers 5 wrote so that 4 reads it: the tokenizer's class, and the list that 4 takes for a dictionary."""
    change(
        out / "model_index.json", tokenizer=["transformers", "T5TokenizerFast"]
    )  # 4's T5Tokenizer wants sentencepiece's file
    change(out / "tokenizer" / "tokenizer_config.json", extra_special_tokens={})


def change(file: Path, **entries) -> None:
    """Change entries of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | entries, indent=2) + "\n")
