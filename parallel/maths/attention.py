"""Dual-scope attention on plain tensors: one block of queries against its keys."""

import math

import torch
from torch.nn.functional import scaled_dot_product_attention

from .scope import GLOBAL, LOCAL, UNSEEN


def logit_mask(kinds_QK: torch.Tensor, local_bias: float, global_bias: float) -> torch.Tensor | None:
    """Return what to add to the logits, float32 (Q, K), or None when that changes nothing."""
    if not (kinds_QK == UNSEEN).any() and (local_bias == global_bias or not (kinds_QK == GLOBAL).any()):
        return None
    mask_QK = torch.full(kinds_QK.shape, -math.inf)
    mask_QK[kinds_QK == LOCAL] = local_bias
    mask_QK[kinds_QK == GLOBAL] = global_bias
    return mask_QK


def logit_scale(kinds_QK: torch.Tensor, trained_frames: int) -> torch.Tensor:
    """Return log(keys) / log(trained length) of each query, float32 (Q,): a softmax over more keys than trained stays sharp."""
    count_Q = (kinds_QK != UNSEEN).sum(1)
    return count_Q.clamp(min=2).float().log() / math.log(trained_frames)


def attend(q_BNQD, k_BNKD, v_BNKD, mask_QK: torch.Tensor | None, scale_Q: torch.Tensor | None = None) -> torch.Tensor:
    """Return softmax(q k^T / sqrt(D) * scale + mask) v, shape (B, N, Q, D)."""
    if scale_Q is not None:
        q_BNQD = q_BNQD * scale_Q[:, None].to(q_BNQD)
    return scaled_dot_product_attention(q_BNQD, k_BNKD, v_BNKD, attn_mask=mask_QK)
