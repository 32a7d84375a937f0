"""The bundled model's parts, untrained, and the folder that they make when trained."""

import json
import string
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, TextToVideoSDPipeline, UNet3DConditionModel
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from parallel.families.parts import TRAINING
from scripts.shapes import Scene, all_kinds

TOKENS = 24  # of a caption


def build_vae() -> AutoencoderKL:
    """Return a VAE of 64x64 pixels to 8x8x4 latents."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 96),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
        scaling_factor=1.0,
    )


def build_unet() -> UNet3DConditionModel:
    """Return the UNet, of 5.3 million parameters."""
    return UNet3DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        block_out_channels=(64, 128),
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=16,
    )


def build_tokenizer() -> CLIPTokenizer:
    """Build CLIP's byte-pair tokenizer with merges that make every caption word one token."""
    captions = [Scene(*kind).caption for kind in all_kinds()]
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    bpe.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        min_frequency=1,
        initial_alphabet=list(string.printable.strip()),
        end_of_word_suffix="</w>",
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        show_progress=False,
    )
    bpe.train_from_iterator(captions, trainer)
    state = json.loads(bpe.to_str())["model"]
    vocab = state["vocab"]
    for letter in [token for token in vocab if len(token) == 1]:
        vocab.setdefault(letter + "</w>", len(vocab))  # so that a letter at a word's end is never unknown
    return CLIPTokenizer(vocab=vocab, merges=[tuple(m) for m in state["merges"]], model_max_length=TOKENS)


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return a text encoder of two layers and width 64."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=256,
            projection_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_scheduler() -> DDIMScheduler:
    """Return the scheduler: v-prediction, zero terminal signal-to-noise ratio."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=True,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


def export(vae: AutoencoderKL, tokenizer: CLIPTokenizer, trained: torch.nn.ModuleDict, out: Path) -> None:
    """Write a folder that the stock pipeline loads: float16, but for the text encoder, whose stored type transformers keeps."""
    parts = {"vae": vae, "text_encoder": trained["text"], "unet": trained["unet"]}
    pipe = TextToVideoSDPipeline(tokenizer=tokenizer, scheduler=build_scheduler(), **parts)
    vae.half()
    trained["unet"].half()
    pipe.save_pretrained(out, safe_serialization=True)
    write_for_all(out, tokenizer)
    (out / TRAINING).write_text(json.dumps({"guidance_scale": 3.0}, indent=2) + "\n")  # this pack's own: what suits it


def write_for_all(out: Path, tokenizer: CLIPTokenizer) -> None:
    """Rewrite what transformers 5 wrote so that 4 reads it: names of the text encoder's weights, a tokenizer in two forms."""
    file = out / "text_encoder" / "model.safetensors"
    named = {f"text_model.{name.removeprefix('text_model.')}": weight for name, weight in load_file(file).items()}
    save_file(named, file, metadata={"format": "pt"})
    tokenizer.backend_tokenizer.model.save(str(out / "tokenizer"))
