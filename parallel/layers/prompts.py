"""What each frame hears: a prompt embedding a frame, for spatial cross-attention that expects one a video."""

from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Hear:
    """Give a spatial transformer the embeddings of the clip's frames, (B x F, L, D), in place of the video's one, repeated."""

    transformer: nn.Module
    embeddings_BFLD: torch.Tensor

    def apply(self, stack: ExitStack) -> None:
        handle = self.transformer.register_forward_pre_hook(self._replace, with_kwargs=True)
        stack.callback(handle.remove)

    def _replace(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        assert "encoder_hidden_states" in kwargs, f"{type(module).__name__} got its prompt as a positional argument"
        return args, {**kwargs, "encoder_hidden_states": self.embeddings_BFLD.flatten(0, 1)}
