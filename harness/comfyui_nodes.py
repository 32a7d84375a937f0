"""Nodes for tests of ComfyUI, which loads this file as a pack of its own: a CLIP, a VAE and a CLIP vision model of real parts at a tiny size."""

import json
from pathlib import Path
from unittest import mock

import comfy.clip_vision
import comfy.ldm.wan.vae2_2
import comfy.sd
import comfy.text_encoders.wan
import torch
from safetensors.torch import load_file

SIZES = ("d_ff", "d_kv", "d_model", "num_heads", "num_layers", "vocab_size")  # the rest is as ComfyUI has it of UMT5-XXL


class Target:
    """What ComfyUI builds a CLIP from that its CLIPLoader has recognised as Wan's."""

    params: dict = {}
    clip = comfy.text_encoders.wan.te(dtype_t5=torch.float32)
    tokenizer = comfy.text_encoders.wan.WanT5Tokenizer


class TinyCLIP:
    """Loads a tiny UMT5 from a model folder, with `spiece.model` beside its weights, into ComfyUI's own classes for Wan's."""

    RETURN_TYPES = ("CLIP",)
    FUNCTION = "load"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"folder": ("STRING", {})}}

    def load(self, folder: str):
        place = Path(folder)
        words = torch.frombuffer(bytearray((place / "spiece.model").read_bytes()), dtype=torch.uint8)
        config = json.loads((place / "config.json").read_text())
        clip = comfy.sd.CLIP(
            Target,
            tokenizer_data={"spiece_model": words},
            state_dict=[load_file(place / "model.safetensors")],
            model_options={"umt5xxl_model_config": {name: config[name] for name in SIZES}},
        )
        return (clip,)


class TinyVAE:
    """Loads a Wan 2.2 VAE from a file into ComfyUI's own classes, which know one width of its layers alone."""

    RETURN_TYPES = ("VAE",)
    FUNCTION = "load"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"file": ("STRING", {}), "dim": ("INT", {})}}

    def load(self, file: str, dim: int):
        real = comfy.ldm.wan.vae2_2.WanVAE

        def narrow(**sizes):
            return real(**sizes | {"dim": dim, "dec_dim": dim})

        with mock.patch.object(comfy.ldm.wan.vae2_2, "WanVAE", narrow):
            vae = comfy.sd.VAE(sd=load_file(file), dtype=torch.float32)
        vae.throw_exception_if_invalid()
        return (vae,)


class TinyVision:
    """Loads a tiny CLIP vision model from a model folder into ComfyUI's own class."""

    RETURN_TYPES = ("CLIP_VISION",)
    FUNCTION = "load"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"folder": ("STRING", {})}}

    def load(self, folder: str):
        place = Path(folder)
        config = json.loads((place / "config.json").read_text())
        vision = comfy.clip_vision.ClipVisionModel(config)
        weights = load_file(place / "model.safetensors")  # which transformers writes with the name of the tower, or without it
        vision.load_sd({f"vision_model.{name.removeprefix('vision_model.')}": weight for name, weight in weights.items()})
        return (vision,)


NODE_CLASS_MAPPINGS = {"TestsTinyCLIP": TinyCLIP, "TestsTinyVAE": TinyVAE, "TestsTinyVision": TinyVision}
