"""A clip decoded or encoded by itself is that of diffusers' pass over the whole video, for every form of Wan's VAE."""

from collections.abc import Iterator
from functools import cache

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import nn

from harness.live import LiveBytes
from parallel.models import wan_vae

RESIDUAL = {"is_residual": True, "patch_size": 2, "in_channels": 12, "out_channels": 12}
FORMS = {
    "2.1": {},
    "2.2": {**RESIDUAL, "scale_factor_spatial": 16, "num_res_blocks": 1},
    "small": {**RESIDUAL, "dim_mult": [1, 2, 2], "temperal_downsample": [True, True], "num_res_blocks": 1},
}
WAYS = {
    "decode": (wan_vae.decode, wan_vae.decode_reach),
    "encode": (wan_vae.encode, wan_vae.encode_reach),
}
REACHES = {
    ("2.1", "decode"): 38,
    ("2.1", "encode"): 28,
    ("2.2", "decode"): 30,
    ("2.2", "encode"): 20,
    ("small", "decode"): 28,
    ("small", "encode"): 19,
}
CLIP = 3
every_form_and_way = pytest.mark.parametrize("form, way", REACHES)
every_way = pytest.mark.parametrize("way", WAYS)


@cache
def vae_of(form: str) -> AutoencoderKLWan:
    """A tiny VAE that looks back as far as it can: with random weights alone the far end of the reach is lost in noise."""
    torch.manual_seed(3)
    vae = AutoencoderKLWan(base_dim=4, z_dim=4, latents_mean=[0.0] * 4, latents_std=[1.0] * 4, **FORMS[form])
    vae = vae.double().eval().requires_grad_(False)
    for module in vae.modules():
        if isinstance(module, nn.Conv3d) and module.kernel_size[0] == 3:
            module.weight[:, :, 0] *= 8
    vae.decoder.conv_out.weight /= 8  # so that few numbers are clamped
    return vae


def frames(latents: range) -> slice:
    return slice(max(0, 4 * latents.start - 3), 4 * latents.stop - 3)


@cache
def whole(form: str, way: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What stock is given and makes: three videos, alike but for latent 0 of the second and latent 1 of the third."""
    vae, latents, draw = vae_of(form), REACHES[form, way] + 1 + CLIP, torch.Generator().manual_seed(4)
    with torch.inference_mode():
        if way == "decode":
            given = torch.randn(1, 4, latents, 1, 2, dtype=torch.float64, generator=draw).repeat(3, 1, 1, 1, 1)
            given[1, :, 0] += 1
            given[2, :, 1] += 1
            return given, vae.decode(given).sample
        size = vae.spatial_compression_ratio
        given = torch.rand(1, 3, 4 * latents - 3, size, 2 * size, dtype=torch.float64, generator=draw).repeat(3, 1, 1, 1, 1)
        given[1, :, 0] += 1
        given[2, :, 4] += 1
        return given, vae.encode(given).latent_dist.mode()


def clip_of(form: str, way: str, clip: range) -> Iterator[torch.Tensor]:
    """Decode or encode a clip, of what it and its halo need alone."""
    run, reach = WAYS[way]
    given = range(max(0, clip.start - reach(vae_of(form))), clip.stop)
    cut = slice(given.start, given.stop) if way == "decode" else frames(given)
    return run(vae_of(form), whole(form, way)[0][:, :, cut], halo=clip.start - given.start, from_start=given.start == 0)


def expected(form: str, way: str, clip: range) -> torch.Tensor:
    return whole(form, way)[1][:, :, frames(clip) if way == "decode" else slice(clip.start, clip.stop)]


def difference(form: str, way: str, clip: range) -> float:
    parts = list(clip_of(form, way, clip))
    assert len(parts) == len(clip)
    return float((torch.cat(parts, dim=2) - expected(form, way, clip)).abs().max())


@pytest.mark.parametrize(
    "form, way, start",
    [(form, way, start) for (form, way), reach in REACHES.items() for start in (0, 1, 6, reach + 1)]
    + [("2.1", way, start) for way in WAYS for start in (2, REACHES["2.1", way] - 1, REACHES["2.1", way])],
)
def test_a_clip_is_as_in_the_whole_video(form, way, start):
    """At the beginning, where its halo is cut off by the beginning, and at the end."""
    assert difference(form, way, range(start, start + CLIP)) < 1e-12


@every_form_and_way
def test_the_reach_is_as_far_as_something_changes_and_no_farther(form, way):
    reach = REACHES[form, way]
    assert WAYS[way][1](vae_of(form)) == reach
    unchanged, beyond, within = expected(form, way, range(reach + 1, reach + 2))
    assert (beyond - unchanged).abs().max() == 0
    assert (within - unchanged).abs().max() > 1e-9


def test_the_released_vaes_reach_38_latents_back_to_decode_and_28_to_encode():
    with torch.device("meta"):
        vaes = AutoencoderKLWan(), AutoencoderKLWan(base_dim=160, decoder_base_dim=256, z_dim=48, **RESIDUAL)
    assert [(wan_vae.decode_reach(vae), wan_vae.encode_reach(vae)) for vae in vaes] == [(38, 28), (38, 28)]


@every_way
@pytest.mark.parametrize("number", [0, 6, 11])
def test_a_convolution_that_is_begun_a_latent_too_late_is_seen(monkeypatch, way, number):
    whole("small", way)
    right = wan_vae.reaches

    def late(net):
        return [reach if place < number else min(reach, right(net)[number] - 1) for place, reach in enumerate(right(net))]

    monkeypatch.setattr(wan_vae, "reaches", late)
    start = REACHES["small", way] + 1
    assert difference("small", way, range(start, start + 1)) > 1e-9


@every_form_and_way
def test_the_vae_is_left_as_it_was(form, way):
    vae = vae_of(form)
    kept = set(vars(vae))
    whole(form, way)
    next(clip_of(form, way, range(1, 3)))  # the rest is not asked for
    with pytest.raises(RuntimeError, match="expected input"):
        list(WAYS[way][0](vae, torch.zeros(1, 7, 9, 8, 8, dtype=torch.float64), halo=2, from_start=True))
    assert not any(module._forward_pre_hooks for module in vae.modules())
    assert set(vars(vae)) - kept == set()


@every_way
def test_two_clips_may_be_made_in_turns(way):
    clips = range(2, 4), range(4, 6)
    in_turns = list(zip(*(clip_of("small", way, clip) for clip in clips), strict=True))
    for parts, clip in zip(zip(*in_turns, strict=True), clips, strict=True):
        assert (torch.cat(parts, dim=2) - expected("small", way, clip)).abs().max() < 1e-12


@every_way
def test_memory_does_not_grow_with_the_clip(way):
    peaks = []
    for clip in (6, 24):
        shape = (1, 4, clip, 1, 2) if way == "decode" else (1, 3, 4 * clip - 3, 8, 16)
        given = torch.zeros(shape, dtype=torch.float64)
        with LiveBytes(known=[given, *vae_of("small").parameters()]) as live:
            made = sum(1 for _ in WAYS[way][0](vae_of("small"), given, halo=0, from_start=True))
        assert made == clip
        peaks.append(live.peak)
    assert peaks[0] == peaks[1] > 0


@every_way
def test_a_halo_that_is_too_short_is_refused(way):
    run, reach = WAYS[way][0], REACHES["small", way]
    wanted = f"this VAE needs {reach} latents before a clip, got 3: give {reach}, or all from the video's start"
    with pytest.raises(ValueError, match=wanted):
        next(run(vae_of("small"), whole("small", way)[0], halo=3, from_start=False))


@pytest.mark.parametrize(
    "count, from_start, wanted", [(8, True, "4n [+] 1 frames from the video's start"), (81, False, "4n frames")]
)
def test_frames_that_are_no_whole_latents_are_refused(count, from_start, wanted):
    video = whole("small", "encode")[0][:, :, :count]
    with pytest.raises(ValueError, match=f"cannot encode {count} frames, a latent is of 4: give {wanted}"):
        next(wan_vae.encode(vae_of("small"), video, halo=19, from_start=from_start))


def test_a_residual_vae_that_diffusers_did_not_build_so_is_refused():
    """What diffusers before 0.35 makes of the configuration of Wan 2.2's VAE."""
    vae = AutoencoderKLWan(base_dim=2, z_dim=4)
    vae.register_to_config(is_residual=True)
    with pytest.raises(ValueError, match=r"the VAE of Wan 2.2 5B needs diffusers 0.35 or newer, this is .*: update diffusers"):
        wan_vae.decode_reach(vae)
