"""Numbers that are not finite: a job ends with what would help, and not in a black video."""

import torch

from ..job.errors import Overflowed

REMEDIES = {
    torch.float16: "the numbers overflowed in float16 {}: use dtype bfloat16 or float32",
    torch.bfloat16: "the numbers are not finite in bfloat16 {}: use dtype float32, and if that is no better another scheduler, "
    "less guidance, or the model's folder anew",
    torch.float32: "the numbers are not finite {}, and not for want of a wider type than float32: use another scheduler, less "
    "guidance, or get the model's folder again",
}


def is_finite(x: torch.Tensor) -> bool:
    """Return whether all numbers are finite. On a GPU it waits for them."""
    return bool(torch.isfinite(x).all())


def overflowed(dtype: torch.dtype, place: str) -> Overflowed:
    """Return the error that says where numbers of a type were not finite, and what to do."""
    return Overflowed(REMEDIES[dtype].format(place), rank=None)
