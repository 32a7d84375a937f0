"""Seeded real diffusers parts at tiny sizes, the same in a test and on its ranks."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet3DConditionModel
from diffusers.models.embeddings import TimestepEmbedding
from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

DIM = 32


def randomized(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give every parameter, those that start at zero or one too, a random value: no layer may hide as an identity."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        scale = 0.2 if parameter.ndim == 1 else 0.5 / parameter[0].numel() ** 0.5
        offset = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        parameter.data = offset + scale * torch.randn(parameter.shape, generator=generator)
    return module.eval().requires_grad_(False)


def conv_layer() -> TemporalConvLayer:
    return randomized(TemporalConvLayer(DIM, DIM, norm_num_groups=8))


def temporal_transformer() -> TransformerTemporalModel:
    return randomized(TransformerTemporalModel(2, 16, in_channels=DIM, norm_num_groups=8))


def unet(layers: int = 1) -> UNet3DConditionModel:
    return randomized(
        UNet3DConditionModel(
            sample_size=8,
            down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
            up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
            block_out_channels=(DIM, 2 * DIM),
            layers_per_block=layers,
            cross_attention_dim=16,
            attention_head_dim=8,
            norm_num_groups=8,
        )
    )


def text_to_video_folder(folder: Path, *, unet_only: bool = False, fps_cond: bool = False) -> Path:
    """Write a tiny random model folder as diffusers would, or VideoCrafter2's conversion of one."""
    net = unet()
    net.save_pretrained(folder / "unet")
    if fps_cond:
        config = folder / "unet" / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "fps_cond": True}))
        file = folder / "unet" / "diffusion_pytorch_model.safetensors"
        extra = randomized(TimestepEmbedding(DIM, 4 * DIM), seed=7).state_dict(prefix="fps_embedding.")
        save_file({**load_file(file), **extra}, file, metadata={"format": "pt"})
    if unet_only:
        return folder
    DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False).save_pretrained(
        folder / "scheduler"
    )
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = AutoencoderKL(**blocks, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1)
    randomized(vae).save_pretrained(folder / "vae")
    merges = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>")]
    letters = [*"acdo", "a</w>", "t</w>", "g</w>"]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *("".join(pair) for pair in merges)]
    vocab = {token: number for number, token in enumerate(tokens)}
    write_tokenizer(folder / "tokenizer", vocab, merges)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPTextConfig(
        vocab_size=len(vocab), max_position_embeddings=8, bos_token_id=0, eos_token_id=1, pad_token_id=1, **sizes
    )
    randomized(CLIPTextModel(config)).save_pretrained(folder / "text_encoder")
    (folder / "model_index.json").write_text(
        json.dumps(
            {
                "_class_name": "TextToVideoSDPipeline",
                "vae": ["diffusers", "AutoencoderKL"],
                "unet": ["diffusers", "UNet3DConditionModel"],
                "scheduler": ["diffusers", "DDIMScheduler"],
                "text_encoder": ["transformers", "CLIPTextModel"],
                "tokenizer": ["transformers", "CLIPTokenizer"],
            }
        )
    )
    return folder


def write_tokenizer(folder: Path, vocab: dict[str, int], merges: list[tuple[str, str]]) -> None:
    """Write CLIP's tokenizer in the form that every version of transformers reads."""
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges)]) + "\n")
    start, end = "<|startoftext|>", "<|endoftext|>"
    tokens = {"bos_token": start, "eos_token": end, "pad_token": end, "unk_token": end}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 8, **tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
