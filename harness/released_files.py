"""Tiny random Wans under the names of released files, where the shared workflows want them: what is in them is of the same forms."""

from pathlib import Path

from PIL import Image

from harness import wan_files
from harness.tiny_files import text_weights, tiny_files

CONDITIONS = {"t2v": 0, "i2v": 20}  # channels of a net for images


def write(models: Path, pictures: Path, place: Path) -> list[Path]:
    """Write Wan 2.2 A14B's nets in scaled fp8, its VAE and its text encoder below `models`, and a picture; return the files."""
    tiny = tiny_files(place)
    written = []
    for kind, condition in CONDITIONS.items():
        for seed, noise in enumerate(("high", "low")):
            weights = wan_files.net_names(wan_files.net(seed, condition=condition).state_dict())
            file = models / "diffusion_models" / f"wan2.2_{kind}_{noise}_noise_14B_fp8_scaled.safetensors"
            written.append(wan_files.save(wan_files.spelled_by_layer(*wan_files.scaled(weights)), file))
    text = text_weights(tiny.parts["text_encoder"], tiny.pieces)
    low, scales = wan_files.scaled(text, wan_files.matrices(text))
    file = models / "text_encoders" / "umt5_xxl_fp8_e4m3fn_scaled.safetensors"
    written.append(wan_files.save(wan_files.spelled_old(low, scales), file))
    assert tiny.files.vae is not None
    written.append(Path(tiny.files.vae).rename(models / "vae" / "wan_2.1_vae.safetensors"))
    pictures.mkdir(exist_ok=True)
    Image.linear_gradient("L").convert("RGB").save(pictures / "example.png")
    return [*written, pictures / "example.png"]
