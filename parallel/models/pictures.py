"""Pictures -> what CLIP's vision tower takes, as its own preprocessor makes it of 8 bits a channel, with Pillow alone."""

import numpy as np
import torch
from einops import rearrange
from PIL import Image

from ..families.wan_pictures import Preprocessor


def prepare(pictures_FHWC: torch.Tensor, how: Preprocessor) -> torch.Tensor:
    """Return pictures, uint8 or float from 0 to 1, as (F, 3, height, width) float32: scaled, their middles, normalized."""
    if pictures_FHWC.is_floating_point():
        pictures_FHWC = (pictures_FHWC * 255).round().clamp(0, 255).to(torch.uint8)
    middles = [_middle(Image.fromarray(picture.numpy()), how) for picture in pictures_FHWC.cpu()]
    shares_FHWC = torch.from_numpy(np.stack(middles)).float() / 255
    mean, std = torch.tensor(how.image_mean), torch.tensor(how.image_std)
    return rearrange((shares_FHWC - mean) / std, "f h w c -> f c h w")


def _middle(picture: Image.Image, how: Preprocessor) -> np.ndarray:
    """Return the middle of a picture (H, W, 3), scaled so that its shorter side is as long as asked for; black where it ends."""
    shorter, longer = sorted(picture.size)
    scaled = int(how.size * longer / shorter)
    size = (how.size, scaled) if picture.width <= picture.height else (scaled, how.size)
    resized = picture.resize(size, Image.Resampling.BICUBIC)
    height, width = how.crop_size
    left, top = (resized.width - width) // 2, (resized.height - height) // 2
    return np.asarray(resized.crop((left, top, left + width, top + height)))
