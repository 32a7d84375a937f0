"""What travels between ranks for 3D attention, by a rule over the measured link and device: hidden states, or keys and values.

Hidden states are half the bytes; keys and values save the taker two projections of what came. What was set by hand stands.
"""

import copy
import time
from typing import Literal

import torch
from torch import nn

from ..comm.agree import least
from ..comm.link import link_speed
from ..maths import scope
from .view import View

Travel = Literal["hidden_states", "keys_values"]
BLOCK = 11  # projections of a token in one block: four and two of the attentions, and a feed-forward of some five
REPEATS = 3  # the first is slower


def faster(link: float, flops: float, *, width: int, item: int, own: int, arrivals: int, branches: int = 1) -> Travel:
    """Return what makes a layer faster, on a link of so many bytes and a device of so many FLOP a second.

    `own` frames wait for `arrivals`, numbers are of `item` bytes. An exchange hides behind what is computed meanwhile: own queries,
    and keys and values where these do not travel; with branches that take turns also a block of each other one.
    """
    sent, projected = item * width / link, 2 * width * width / flops  # seconds, of a token
    others = BLOCK * (branches - 1)
    hidden_states = max(arrivals * sent, (3 + others) * own * projected) + 2 * arrivals * projected
    keys_values = 2 * own * projected + max(2 * arrivals * sent, (1 + others) * own * projected)
    return "hidden_states" if hidden_states <= keys_values else "keys_values"


def choose(asked: str, linear: nn.Linear, view: View, *, tokens: int, branches: int) -> Travel:
    """Return what travels in a job whose frames have so many tokens; `linear` is one of its projections. Collective.

    All ranks choose alike: by the slowest link and device, by the shortest clip, and by the one that gets most.
    """
    if asked == "hidden_states" or view.group.size == 1:
        return "hidden_states"
    if asked == "keys_values":
        return "keys_values"
    link, flops = least(link_speed(view.group), measure_flops(linear, tokens, view.group.device), group=view.group)
    arrivals = max(sum(key not in clip for key in scope.keys(clip, view.span)) for clip in view.clips)
    own = min(map(len, view.clips))
    item = linear.weight.element_size()
    return faster(link, flops, width=linear.in_features, item=item, own=own, arrivals=arrivals, branches=branches)


def measure_flops(linear: nn.Linear, tokens: int, device: torch.device) -> float:
    """Return the FLOP a second of a projection of some tokens on a device, where its weights need not be yet."""
    linear = linear if linear.weight.device == device else copy.deepcopy(linear).to(device)
    x_SD = linear.weight.new_zeros(tokens, linear.in_features)
    seconds = []
    with torch.inference_mode():
        for _ in range(REPEATS):
            began = time.perf_counter()
            linear(x_SD)[-1, -1].item()  # waits for the device: once for a net and a job, and not in a step
            seconds.append(time.perf_counter() - began)
    return 2 * tokens * linear.in_features * linear.out_features / min(seconds)
