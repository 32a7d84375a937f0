"""Files as a real ComfyUI reads them: what its Load Image shows is what an init shows, and its Load Latent reads our latents."""

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from parallel.cli import inits, latents_file
from parallel.families.latent_format import LatentFormat
from tests.test_inits import gradient, pictures_of_every_kind, write_stream

FORM = LatentFormat(std=(1 / 0.18215,))


def test_an_init_shows_what_load_image_shows(server):
    folder = server.base / "input"
    names = list(pictures_of_every_kind(folder))
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("phone.jpg", "phone.png"):
        Image.fromarray(gradient()).save(folder / name, exif=exif, quality=95, subsampling=0)
    prompt = {}
    for name in (*names, "phone.jpg", "phone.png"):
        prompt[f"load {name}"] = {"class_type": "LoadImage", "inputs": {"image": name}}
        saved = {"images": [f"load {name}", 0], "filename_prefix": name.replace(".", "_")}
        prompt[name] = {"class_type": "SaveImage", "inputs": saved}
    run = server.run(prompt)
    assert run.end == "execution_success", run.detail
    for name in (*names, "phone.jpg", "phone.png"):
        theirs = Image.open(server.base / "output" / run.outputs[name]["images"][0]["filename"])
        (ours,) = inits.read(folder / name, most=9)
        assert theirs.size == (ours.shape[1], ours.shape[0]), name
        assert np.abs(np.asarray(theirs.convert("RGB")).astype(int) - ours.numpy()).max() <= 4, name


def test_an_init_shows_what_load_video_shows(server):
    folder = server.base / "input"
    write_stream(folder / "ten_bits.mp4", pix_fmt="yuv420p10le")
    prompt = {
        "load": {"class_type": "LoadVideo", "inputs": {"file": "ten_bits.mp4"}},
        "frames": {"class_type": "GetVideoComponents", "inputs": {"video": ["load", 0]}},
        "save": {"class_type": "SaveImage", "inputs": {"images": ["frames", 0], "filename_prefix": "ten_bits"}},
    }
    run = server.run(prompt)
    assert run.end == "execution_success", run.detail
    saved = run.outputs["save"]["images"]
    theirs = np.stack([np.asarray(Image.open(server.base / "output" / image["filename"])) for image in saved])
    ours = inits.read(folder / "ten_bits.mp4", most=99).numpy()
    assert theirs.shape == ours.shape
    assert np.abs(theirs.astype(int) - ours).mean() < 2


def test_load_latent_reads_our_latents_and_we_read_what_save_latent_writes(server):
    seen = torch.randn(1, 4, 3, 8, 8)
    latents_file.save(server.base / "input" / "ours.latent", seen, FORM)
    prompt = {
        "load": {"class_type": "LoadLatent", "inputs": {"latent": "ours.latent"}},
        "save": {"class_type": "SaveLatent", "inputs": {"samples": ["load", 0], "filename_prefix": "theirs"}},
    }
    run = server.run(prompt)
    assert run.end == "execution_success", run.detail
    file = server.base / "output" / run.outputs["save"]["latents"][0]["filename"]
    assert torch.allclose(load_file(file)["latent_tensor"], seen[0].movedim(0, 1) / 0.18215)
    assert torch.allclose(latents_file.load(file, (4, 3, 8, 8), FORM), seen[0], atol=1e-6)
