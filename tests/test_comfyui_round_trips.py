"""A LATENT of Wan 2.1 and 2.2 through ComfyUI's own nodes and back: encoded, decoded, stored, loaded and scaled by either side."""

import copy
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file

from harness.builders import randomized
from harness.wan_builders import transformer, wan_folder
from harness.wan_original import original_names
from parallel.families import folder as folders
from tests.graphs import SOURCES, node, ours
from tests.test_comfyui import saved
from tests.test_comfyui_latents import clip, save_images, save_latent, stored
from tests.test_comfyui_wan import comfyuis_latent_formats

FRAMES, SIZE, DIM = 5, 32, 4
FORMATS = {"wan 2.1": "Wan21", "wan 2.2": "Wan22"}


@dataclass(frozen=True)
class Known:
    """A model that ComfyUI has, too: its name, a node that loads its VAE there, how its LATENT of five frames is."""

    name: str
    vae: dict
    shape: tuple[int, ...]

    @property
    def scale(self) -> int:
        """Pixels for one of a latent's."""
        return SIZE // self.shape[-1]


def wan_vae(kind: str) -> AutoencoderKLWan:
    """Return a tiny random VAE on the scale of a released one: latents are as many, and mean the same to a net."""
    form = getattr(comfyuis_latent_formats(), FORMATS[kind])()
    scale = {f"latents_{name}": getattr(form, f"latents_{name}").flatten().tolist() for name in ("mean", "std")}
    patches = {"in_channels": 12, "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 16, "decoder_base_dim": DIM}
    residual = kind == "wan 2.2"
    return randomized(
        AutoencoderKLWan(
            base_dim=DIM, z_dim=form.latent_channels, **scale, **(patches if residual else {}), is_residual=residual
        )
    )


def wan_known(server, kind: str, place: Path) -> Known:
    name = kind.replace(" ", "_")
    timed = kind == "wan 2.2"
    wan_folder(place, timed=timed)
    vae = wan_vae(kind)
    for part, made in (("transformer", transformer(channels=vae.config.z_dim)), ("vae", vae)):
        shutil.rmtree(place / part)
        made.save_pretrained(place / part)
    file = server.base / "models" / "vae" / f"{name}.safetensors"
    save_file({key: weight.contiguous() for key, weight in original_names(vae.state_dict()).items()}, file)
    (server.base / "models" / "diffusers" / name).symlink_to(place, target_is_directory=True)
    loader = node("TestsTinyVAE", file=str(file), dim=DIM) if timed else node("VAELoader", vae_name=file.name)
    side = SIZE // (16 if timed else 8)
    return Known(name, loader, (1, vae.config.z_dim, 2, side, side))


@pytest.fixture(scope="module", params=FORMATS)
def known(request, server, tmp_path_factory):
    """A model with a VAE of the form and scale of Wan 2.1's or 2.2's."""
    for part in ("diffusers", "vae"):
        (server.base / "models" / part).mkdir(parents=True, exist_ok=True)
    made = wan_known(server, request.param, tmp_path_factory.mktemp("known") / "model")
    yield made
    (server.base / "models" / "diffusers" / made.name).unlink()
    (server.base / "models" / "vae" / f"{made.name}.safetensors").unlink()


def sources(known: Known) -> dict:
    prompt = {name: copy.deepcopy(SOURCES[name]) for name in ("model", "ranks")} | {"vae": known.vae}
    prompt["model"]["inputs"]["model"] = known.name
    return prompt


def decoded(latent: str, name: str) -> dict:
    """Return nodes that decode a LATENT on either side and save the frames."""
    return {
        f"{name} ours": ours("ClipParallelDecode", model=("model", 0), latent=(latent, 0), ranks=("ranks", 0)),
        f"{name} theirs": node("VAEDecode", samples=(latent, 0), vae=("vae", 0)),
        f"{name} ours saved": save_images((f"{name} ours", 0), f"{name}_ours"),
        f"{name} theirs saved": save_images((f"{name} theirs", 0), f"{name}_theirs"),
    }


def both(server, name: str) -> np.ndarray:
    """Return what ours makes of a LATENT, which theirs makes, too."""
    ours_made, theirs = (saved(server, f"{name}_{side}").astype(int) for side in ("ours", "theirs"))
    assert ours_made.shape == theirs.shape and ours_made.std() > 1
    assert np.abs(ours_made - theirs).max() <= 1, name
    return ours_made


def test_a_latent_is_encoded_decoded_stored_loaded_and_scaled_by_either_side(server, known):
    encode = {
        **sources(known),
        "video": node("LoadImage", image=clip(server, "round.webp", FRAMES)),
        "their_encode": node("VAEEncode", pixels=("video", 0), vae=("vae", 0)),
        "our_encode": ours("ClipParallelEncode", model=("model", 0), images=("video", 0), ranks=("ranks", 0)),
        "larger": node(
            "LatentUpscale", samples=("our_encode", 0), upscale_method="bilinear", width=64, height=64, crop="disabled"
        ),
    }
    for name in ("their_encode", "our_encode"):
        encode |= decoded(name, f"round_{name}") | {f"{name} latent": save_latent((name, 0), f"round_{name}")}
    encode |= decoded("larger", "round_larger")
    seen = server.run(encode)
    assert seen.end == "execution_success", seen.detail
    theirs, our = (stored(server, f"round_{name}") for name in ("their_encode", "our_encode"))
    assert theirs.shape == our.shape == known.shape
    assert (our - theirs).abs().max() < 0.01 * theirs.std()
    frames = [both(server, f"round_{name}") for name in ("their_encode", "our_encode")]
    assert frames[0].shape == (FRAMES, SIZE, SIZE, 3)
    side = 64 // 8 * known.scale  # Latent Upscale counts 8 pixels for a latent's, whatever the VAE
    assert both(server, "round_larger").shape == (FRAMES, side, side, 3)

    file = max((server.base / "output").glob("round_our_encode_*.latent"), key=lambda path: path.stat().st_mtime_ns)
    shutil.copy(file, server.base / "input" / "round.latent")
    os.utime(server.base / "input" / "round.latent")
    load = {**sources(known), "load": node("LoadLatent", latent="round.latent"), **decoded("load", "round_loaded")}
    seen = server.run(load)
    assert seen.end == "execution_success", seen.detail
    assert np.abs(both(server, "round_loaded") - frames[1]).max() <= 1


@pytest.mark.parametrize("kind", FORMATS)
def test_what_a_net_sees_of_a_latent_is_what_comfyuis_nets_see(kind, tmp_path):
    """And so what KSampler makes of one, and what ours does, begin with the same numbers."""
    form = getattr(comfyuis_latent_formats(), FORMATS[kind])()
    wan_folder(tmp_path / "model", timed=kind == "wan 2.2")
    for part, made in (("transformer", transformer(channels=form.latent_channels)), ("vae", wan_vae(kind))):
        shutil.rmtree(tmp_path / "model" / part)
        made.save_pretrained(tmp_path / "model" / part)
    own = folders.inspect(str(tmp_path / "model")).latent_format
    raw = torch.randn(1, form.latent_channels, 3, 4, 4)
    assert torch.allclose(own.from_raw(raw, dim=1), form.process_in(raw), atol=1e-5)
    assert torch.allclose(own.to_raw(raw, dim=1), form.process_out(raw), atol=1e-5)
    assert not torch.allclose(form.process_in(raw), raw, atol=0.1)
