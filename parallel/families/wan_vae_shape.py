"""Wan's VAE as numbers, from its configuration alone: how far back a decode reaches, and what it keeps alive."""

from pydantic import Field

from ..job.job import Frozen

DECODER_TENSORS = 7.4  # at work at once, of the largest that a layer of the decoder takes: 6.6 to 7.4 were counted


class WanVAESizes(Frozen):
    """The sizes of an `AutoencoderKLWan`, under diffusers' names and with its defaults."""

    base_dim: int = 96
    decoder_base_dim: int | None = None
    z_dim: int = Field(16, ge=1)
    is_residual: bool = False
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = Field(2, ge=0)
    temperal_downsample: tuple[bool, ...] = (False, True, True)
    latents_mean: tuple[float, ...] = (
        -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
        0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
    )  # fmt: skip
    latents_std: tuple[float, ...] = (
        2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
        3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
    )  # fmt: skip
    patch_size: int | None = None
    scale_factor_temporal: int = Field(4, ge=1)
    scale_factor_spatial: int = Field(8, ge=1)

    @property
    def frames(self) -> int:
        """Frames of a latent, but for the video's first."""
        return 2 ** sum(self.temperal_downsample)


def decode_reach(vae: WanVAESizes) -> int:
    """Return how many latents before its own the frames of a latent depend on: every causal convolution looks back two frames."""
    frames, rate = 2, vae.frames  # through the last convolution; frames of a latent at its rate
    for doubled in (False, *vae.temperal_downsample):  # from the level at full size inwards, what made a level's frames
        if doubled:
            frames, rate = -(-frames // 2) + 2, rate // 2
        frames += 2 * 2 * (vae.num_res_blocks + 1)
    frames += 2 * (4 + 1)  # the middle's two blocks, and the first convolution
    return -(-frames // rate)


def decode_numbers(vae: WanVAESizes, height: int, width: int) -> int:
    """Return how many numbers the VAE keeps alive while it decodes one latent, of frames of a size in pixels."""
    base, patch = vae.decoder_base_dim or vae.base_dim, vae.patch_size or 1
    made = [base * times for times in reversed(vae.dim_mult)]  # channels of each level, from the latent outwards
    takes = [made[0], *(before if vae.is_residual else before // 2 for before in made[:-1])]
    full = (height // patch) * (width // patch)
    pixels = [full >> 2 * outer for outer in reversed(range(len(made)))]
    kept = (vae.z_dim + 4 * made[0]) * pixels[0] + made[-1] * full  # two frames of what each convolution takes
    doubles = (*reversed(vae.temperal_downsample), False)
    for takes_first, makes, size, is_doubled in zip(takes, made, pixels, doubles):
        kept += (takes_first + (2 * vae.num_res_blocks + 1 + is_doubled) * makes) * size
    pictures = 3 * height * width  # of the latent before, which somebody still writes
    return round(2 * kept + vae.frames * (DECODER_TENSORS * max(takes[-1], made[-1]) * full + pictures))
