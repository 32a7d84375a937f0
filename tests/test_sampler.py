"""The whole sampler on one rank against diffusers' stock pipeline and scheduler classes."""

import json
import warnings
from functools import cache

import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, TextToVideoSDPipeline, UNet3DConditionModel
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from harness import builders
from parallel.comm.group import Group
from parallel.families import folder
from parallel.families.unet3d import UNet3D
from parallel.job.job import Job, Prompt, Scope, checked
from parallel.layers.view import View
from parallel.maths.scope import Span, block_length
from parallel.sampler import denoise, load, schedule
from parallel.sampler.generate import Blocks, generate

CPU = torch.device("cpu")
ALONE = Group(0, 1, CPU)


@cache
def loaded(model_folder: str, parts: str | None, dtype: torch.dtype) -> load.Model:
    """Return a model, which is whole again after each job (test_sampler_stop.py)."""
    return load.load(folder.inspect(model_folder, parts), dtype)


def run(model_folder, frames=6, *, init=None, decode=True, **change):
    """Return (latents, frames) of a job on one rank in this process."""
    text = change.pop("text", "a cat")
    values = {"height": 16, "width": 16, "num_inference_steps": 3, "guidance_scale": 5.0, "scope": Scope(local_context=frames)}
    job = checked(
        Job, **{**values, "model": str(model_folder), "prompts": (Prompt(frame=0, text=text),), "frames": frames, **change}
    )
    folder.check(job, 1)
    model = loaded(job.model, job.parts, getattr(torch, job.dtype))
    pixels = torch.zeros(frames, 16, 16, 3) if decode else None
    blocks = Blocks(torch.zeros(4, frames, 8, 8), pixels, init, init is not None and init.shape[-1] != 3)
    generate(model, job, blocks, ALONE, report=lambda *_: None, stopping=lambda: False)
    return blocks.latents_CTHW, blocks.frames_THWC


@cache
def components(model_folder) -> dict:
    """Return the parts of the stock pipeline."""
    return TextToVideoSDPipeline.from_pretrained(model_folder, low_cpu_mem_usage=False).components


def stock(model_folder) -> TextToVideoSDPipeline:
    pipeline = TextToVideoSDPipeline(**components(model_folder))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("guidance", [1.0, 5.0])
@pytest.mark.parametrize("global_frames", [0, 5])
def test_anchor_generate_equals_the_stock_pipeline(tiny, guidance, global_frames):
    scope = Scope(local_context=6, global_frames=global_frames)
    noise, _ = run(tiny, num_inference_steps=0)
    latents, frames = run(tiny, guidance_scale=guidance, negative="a dog", scope=scope)
    call = {"num_inference_steps": 3, "guidance_scale": guidance, "negative_prompt": "a dog", "num_frames": 6}
    size = {"height": 16, "width": 16, "latents": noise[None]}
    pipeline = stock(tiny)
    expected = pipeline("a cat", **call, **size, output_type="latent").frames[0]
    assert (latents - expected).abs().max() < 1e-4
    pictures = pipeline("a cat", **call, **size, output_type="pt").frames[0].permute(0, 2, 3, 1)
    assert (frames - pictures).abs().max() < 1e-4
    assert frames.std() > 0.01


@pytest.mark.parametrize("name", list(UNet3D.schedulers))
def test_each_scheduler_steps_as_diffusers_does(tiny, name, monkeypatch):
    """The stock pipeline with the same class; the ancestral noise is compared in its own test below."""
    import diffusers

    if name == "euler_ancestral":
        step = EulerAncestralDiscreteScheduler.step
        silent = lambda self, *args, **_: step(self, *args, generator=[torch.Generator().manual_seed(5) for _ in range(6)])  # noqa: E731
        monkeypatch.setattr(EulerAncestralDiscreteScheduler, "step", lambda self, *args, **options: silent(self, *args))
    noise, _ = run(tiny, num_inference_steps=0)
    latents, _ = run(tiny, scheduler=name, decode=False)
    pipeline = stock(tiny)
    pipeline.scheduler = getattr(diffusers, UNet3D.schedulers[name]).from_config(pipeline.scheduler.config)
    call = {"num_inference_steps": 3, "guidance_scale": 5.0, "num_frames": 6, "height": 16, "width": 16}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the stock pipeline's own
        expected = pipeline("a cat", **call, latents=noise[None], output_type="latent").frames[0]
    assert (latents - expected).abs().max() < 1e-3


def test_ancestral_noise_differs_by_frame_and_by_step_and_repeats_with_the_seed(tiny):
    once, _ = run(tiny, scheduler="euler_ancestral", decode=False, seed=4)
    again, _ = run(tiny, scheduler="euler_ancestral", decode=False, seed=4)
    other, _ = run(tiny, scheduler="euler_ancestral", decode=False, seed=5)
    assert torch.equal(once, again) and not torch.allclose(once, other)


def test_no_steps_leave_the_starting_noise(tiny):
    noise, _ = run(tiny, num_inference_steps=0, frames=200, decode=False)
    assert abs(noise.std() - 1) < 0.02
    assert torch.equal(noise, run(tiny, num_inference_steps=0, frames=200, decode=False, scheduler="euler")[0])


def test_half_precision_stays_near_single(tiny):
    exact, _ = run(tiny, decode=False)
    half, frames = run(tiny, dtype="bfloat16")
    assert half.dtype == torch.float32 and frames.dtype == torch.float32
    assert (half - exact).abs().mean() < 0.1 * exact.std()


def test_a_weak_denoise_keeps_the_init_and_a_strong_one_does_not(tiny):
    init = torch.randn(4, 6, 8, 8)
    near, _ = run(tiny, init=init, denoise=0.1, num_inference_steps=10, guidance_scale=1.0, decode=False)
    far, _ = run(tiny, init=init, denoise=0.9, num_inference_steps=10, guidance_scale=1.0, decode=False)
    assert (near - init).abs().mean() < 0.5 * (far - init).abs().mean()


def test_one_init_image_serves_all_frames_as_a_video_of_it_does(tiny):
    image = torch.randint(0, 256, (1, 16, 16, 3), dtype=torch.uint8)
    still, _ = run(tiny, init=image, denoise=0.5, decode=False)
    video, _ = run(tiny, init=image.expand(6, -1, -1, -1).float() / 255, denoise=0.5, decode=False)
    assert torch.allclose(still, video, atol=1e-5)


def test_a_frame_hears_its_own_prompt(tiny):
    """Layers over frames carry some of it on; frames far from the switch keep to their own prompt."""
    both = (Prompt(frame=0, text="a cat"), Prompt(frame=12, text="a dog"))
    settings = {"frames": 24, "decode": False, "scope": Scope(local_context=1, global_frames=0), "num_inference_steps": 2}
    cat, _ = run(tiny, **settings)
    dog, _ = run(tiny, text="a dog", **settings)
    split, _ = run(tiny, prompts=both, **settings)
    to_cat, to_dog = ((split - other).abs().mean((0, 2, 3)) for other in (cat, dog))
    assert to_cat[:5].max() < 0.3 * to_dog[:5].min()
    assert to_dog[-5:].max() < 0.3 * to_cat[-5:].min()


def test_prompts_as_a_timeline_of_one_equal_the_plain_path(tiny):
    twice = (Prompt(frame=0, text="a cat"), Prompt(frame=3, text="a cat"))
    assert torch.allclose(run(tiny, decode=False)[0], run(tiny, decode=False, prompts=twice)[0], atol=1e-6)


def test_a_unet_with_a_layer_missing_is_an_error_and_not_a_partial_patch():
    from parallel.layers.attention import Biases
    from parallel.models import unet3d

    net = builders.unet()
    net.mid_block.temp_convs[0] = torch.nn.Identity()
    view = View(ALONE, Span(4, 1, 1))
    with pytest.raises(ValueError, match="layers over frames, its configuration promises"):
        unet3d.frame_changes(net, view, Biases(view))


def test_videocrafters_frame_rate_embedding_is_loaded_and_added(tmp_path):
    """Against a stock UNet whose time embedding is wrapped here, by hand, from VideoCrafter2's definition."""
    root = builders.text_to_video_folder(tmp_path / "base")
    crafter = builders.text_to_video_folder(tmp_path / "crafter", unet_only=True, fps_cond=True)
    kwargs = {"parts": str(root), "decode": False, "num_inference_steps": 2}
    noise, _ = run(crafter, **{**kwargs, "num_inference_steps": 0})
    slow, _ = run(crafter, fps=8, **kwargs)
    fast, _ = run(crafter, fps=24, **kwargs)
    assert (slow - fast).abs().max() > 1e-3

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unet = UNet3DConditionModel.from_pretrained(crafter / "unet", low_cpu_mem_usage=False)
    added = TimestepEmbedding(builders.DIM, 4 * builders.DIM)
    weights = load_file(crafter / "unet" / "diffusion_pytorch_model.safetensors")
    added.load_state_dict({key[len("fps_embedding.") :]: value for key, value in weights.items() if key.startswith("fps_")})
    plain = unet.time_embedding.forward
    sinusoid = Timesteps(builders.DIM, flip_sin_to_cos=True, downscale_freq_shift=0)(torch.tensor([24.0]))
    unet.time_embedding.forward = lambda sample, condition=None: plain(sample, condition) + added(sinusoid)
    pipeline = stock(root)
    pipeline.unet = unet
    call = {"num_inference_steps": 2, "guidance_scale": 5.0, "num_frames": 6, "height": 16, "width": 16}
    expected = pipeline("a cat", **call, latents=noise[None], output_type="latent").frames[0]
    assert (fast - expected).abs().max() < 1e-4
    assert json.loads((crafter / "unet" / "config.json").read_text())["fps_cond"] is True


class LargestAttention(TorchDispatchMode):
    """Record the largest tensor that any attention kernel or softmax touches."""

    def __init__(self):
        super().__init__()
        self.largest = 0
        self.calls = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if any(word in str(function) for word in ("attention", "softmax", "bmm")):
            self.calls += 1
            everything = [*args, *(kwargs or {}).values(), *(out if isinstance(out, (tuple, list)) else [out])]
            self.largest = max(self.largest, *(t.numel() for t in everything if isinstance(t, torch.Tensor)))
        return out


@pytest.mark.parametrize("global_frames", [0, 8])
def test_no_attention_tensor_grows_with_the_video(global_frames):
    """No T x T: the largest tensor of temporal attention is the same at T = 64 and at T = 512."""
    from parallel.layers.activation import Activation
    from parallel.layers.attention import Biases, FrameTransformer

    pixels, largest = 2, {}
    for frames in (64, 512):
        view = View(ALONE, Span(frames, 8, global_frames))
        layer = FrameTransformer(builders.temporal_transformer(), view, Biases(view))
        with LargestAttention() as record, torch.inference_mode():
            layer(Activation(torch.randn(frames, builders.DIM, 1, pixels)), num_frames=frames)
        assert record.calls > 0
        largest[frames] = record.largest
    # Global frames that lie in a block's window are not fetched twice, which saves a short video some of them.
    most_keys = block_length(Span(512, 8, global_frames)) + 2 * 8 + global_frames
    assert largest[64] <= largest[512] <= pixels * most_keys * builders.DIM
    assert global_frames or largest[64] == largest[512]


def test_parts_in_host_memory_make_the_same_video(tiny):
    latents, frames = run(tiny)
    offloaded = run(tiny, offload="parts")
    assert torch.equal(offloaded[0], latents) and torch.equal(offloaded[1], frames)


@pytest.mark.gpu
def test_offloaded_parts_leave_the_device_and_come_back(tiny):
    device = torch.device("cuda")
    model = load.load(folder.inspect(str(tiny)), torch.float32)
    load.settle(model, device, "parts")
    with load.resident(model.unet, model=model, device=device, offload="parts"):
        assert model.unet.device.type == "cuda" and model.vae.device.type == "cpu"
    assert model.unet.device.type == "cpu"
    load.settle(model, device, "none")
    assert {part.device.type for part in (model.unet, model.vae, model.text_encoder)} == {"cuda"}


@pytest.mark.parametrize("steps, denoise, run", [(10, 0.5, 5), (10, 0.76, 8), (10, 0.74, 7), (4, 0.05, 1), (3, 1.0, 3)])
def test_denoise_runs_the_share_of_the_steps_that_is_nearest(tiny, steps, denoise, run):
    model = folder.inspect(str(tiny))
    work = checked(
        Job,
        model=str(tiny),
        prompts=(Prompt(frame=0, text="a"),),
        frames=1,
        height=16,
        width=16,
        num_inference_steps=steps,
        denoise=denoise,
    )
    for name in ("ddim", "euler", "uni_pc"):
        assert len(schedule.timesteps(schedule.build(model, name), work, CPU)) == run


def test_a_ramp_goes_by_the_whole_schedule_when_denoise_leaves_out_its_beginning(tiny, monkeypatch):
    seen, step_biases = [], denoise.step_biases
    monkeypatch.setattr(denoise, "step_biases", lambda *step: seen.append(step_biases(*step)) or seen[-1])
    ramp = Scope(local_bias=(0.0, 9.0), global_bias=(9.0, 0.0), ramp=True)
    run(tiny, scope=ramp, num_inference_steps=10, denoise=0.4, init=torch.zeros(4, 6, 8, 8))
    assert torch.allclose(torch.tensor(seen), torch.tensor([(6.0, 3.0), (7.0, 2.0), (8.0, 1.0), (9.0, 0.0)]))
