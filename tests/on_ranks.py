"""What tests run on their ranks: each function gets its group and the whole input, works on its clip, returns its slice."""

from dataclasses import replace

import torch
import torch.distributed as dist

from harness import builders
from parallel.comm import agree as agreement
from parallel.comm import group as groups
from parallel.comm.fetch import Routes, fetch
from parallel.comm.group import Group, Link
from parallel.families import folder
from parallel.job.errors import OutOfStep
from parallel.layers import travel
from parallel.layers.activation import Activation
from parallel.layers.attention import Biases, FrameTransformer
from parallel.layers.conv import FrameConvs
from parallel.layers.patch import patched
from parallel.layers.stale import Mode
from parallel.layers.view import View
from parallel.maths import clips
from parallel.maths.scope import Span
from parallel.models import unet3d
from parallel.sampler import encode, load, sample, schedule
from parallel.wire import blocks
from parallel.wire.messages import BlockHandle


def _view(group: Group, frames: int, local: int = 0, global_: int = 0, loop: bool = False) -> View:
    return View(group, Span(frames, local, global_, loop))


def fetch_frames(group: Group, x, wanted, dim, dtype=torch.float32):
    """Return (what came, in which order, all headers) for own frames `x` of a whole tensor cut along `dim`."""
    parts = clips.cut(x.shape[dim], group.size)
    route = Routes(parts, wanted[: group.size]).of(group.rank, group.device)
    own = x.narrow(dim, parts[group.rank].start, len(parts[group.rank])).to(dtype)
    header = torch.full((2, 3), float(group.rank)) + 0.1
    arrived, headers = fetch(own, dim, route, group, header=header).wait()
    plain, nothing = fetch(own, dim, route, group).wait()
    assert nothing is None and torch.equal(plain, arrived)
    return arrived, route.arrivals, headers


def write_row(group: Group, handle: str, row: int, value: float) -> None:
    """Write into one row of a shared block, of which a message tells."""
    blocks.attach(BlockHandle.model_validate_json(handle))[row] = value


def agree(group: Group, flags, made=None):
    """Return what comes of each rank's flags, when it has made so many exchanges; or what the ranks say if that can't be."""
    if made is not None:
        group.meter.messages = made[group.rank]
    try:
        return agreement.agree(*flags[group.rank], group=group, at="at step 3 of 9")
    except OutOfStep as error:
        return str(error)


def choose_travel(group: Group, links, asked="auto"):
    """Return (what a rank chooses to send, what it would choose by its own link and a device of 1 GFLOP/s)."""
    view = View(replace(group, link=Link(links[group.rank])), Span(10, 2, 2))
    linear = torch.nn.Linear(32, 32)
    alone = travel.faster(links[group.rank], 1e9, width=32, item=4, own=3, arrivals=4)
    return travel.choose(asked, linear, view, tokens=8, branches=1), alone


def warm_up(group: Group, breaks):
    """Return what a rank says of the group's first exchange, in which rank `breaks` sends something else."""
    exchange = dist.all_to_all_single

    def damaged(inbox, outbox, *arguments, **options):
        return exchange(inbox, outbox + 0.5, *arguments, **options)

    if group.rank == breaks:
        dist.all_to_all_single = damaged
    try:
        return groups.warm_up(group.rank, group.size, group.device)
    except RuntimeError as error:
        return str(error)
    finally:
        dist.all_to_all_single = exchange


def measure_link(group: Group, asked):
    """Return (bytes a second that a rank knew that it sends, and those that it knows after choosing what travels, twice)."""
    group.link.speed = None
    linear = torch.nn.Linear(32, 32)
    known = []
    for _ in range(2):
        travel.choose(asked, linear, _view(group, 10, 2, 2), tokens=8, branches=1)
        known.append(group.link.speed)
    return known


def convolve(group: Group, x_BCFHW, loop):
    """Run what stands in for a TemporalConvLayer on this rank's clip."""
    view = _view(group, x_BCFHW.shape[2], loop=loop)
    return _over_frames(FrameConvs(builders.conv_layer(), view), x_BCFHW, view.clip)


def attend(group: Group, x_BCFHW, local, global_, loop=False, biases=(0.0, 0.0), trained=None):
    """Run what stands in for a TransformerTemporalModel on this rank's clip."""
    view = _view(group, x_BCFHW.shape[2], local, global_, loop)
    state = Biases(view, trained)
    view.call.biases = biases
    layer = FrameTransformer(builders.temporal_transformer(), view, state)
    return _over_frames(lambda x, num_frames: layer(x, num_frames)[0], x_BCFHW, view.clip)


def _over_frames(layer, x_BCFHW, clip):
    own = x_BCFHW[:, :, clip.start : clip.stop]
    with torch.inference_mode():
        out, _ = layer(Activation(own.transpose(1, 2).flatten(0, 1)), num_frames=len(clip)).take()
    return out.unflatten(0, (-1, len(clip))).transpose(1, 2)


def call_unet(group: Group, x_BCFHW, timestep, text_BLD, local, global_, loop=False):
    """Run a patched UNet on this rank's clip."""
    net = builders.unet()
    view = _view(group, x_BCFHW.shape[2], local, global_, loop)
    with torch.inference_mode(), patched(unet3d.frame_changes(net, view, Biases(view))):
        return net(x_BCFHW[:, :, view.clip.start : view.clip.stop], timestep, encoder_hidden_states=text_BLD).sample


def cost_of_unet(group: Group, x_BCFHW, timestep, text_BLD, local, global_):
    """Return (messages, bytes) of one UNet call."""
    call_unet(group, x_BCFHW, timestep, text_BLD, local, global_)
    return group.meter.messages, group.meter.sent


def sample_from(group: Group, job, noise):
    """Run the denoising of a whole job on this rank's clip, from given starting noise of the whole video."""
    model = load.load(folder.check(job, group.size), torch.float32)
    view = _view(group, job.frames, job.scope.local_context, job.scope.global_frames, job.loop)
    scheduler = schedule.build(model.folder, job.scheduler)
    steps = schedule.timesteps(scheduler, job, group.device)
    start = noise[:, :, view.clip.start : view.clip.stop] * scheduler.init_noise_sigma
    conditioning = encode.encode_prompts(model, job, view.clip)
    settings = {"view": view, "scheduler": scheduler, "schedule": steps}
    *_, last = sample.sample(model, job, start, conditioning, **settings)
    return last


def kept_messages(group: Group, stale):
    """Return the bytes of messages that a UNet keeps after two calls, the second of which nobody has read."""
    net, view = builders.unet(), _view(group, 8, 2, 2)
    x, text = torch.randn(1, 4, 8, 8, 8), torch.randn(1, 5, 16)
    with torch.inference_mode(), patched(unet3d.frame_changes(net, view, Biases(view))):
        for view.call.mode in (Mode.KEEP, Mode.RENEW) if stale else (Mode.EXACT, Mode.EXACT):
            net(x[:, :, view.clip.start : view.clip.stop], 1, encoder_hidden_states=text)
    kept = [message.pending for message in view.call.kept.messages.values()]
    view.call.kept.drain()
    assert not view.call.kept.messages and all(pending.work is None for pending in kept), "a message is under way"
    return sum(pending.inbox.nbytes for pending in kept)
