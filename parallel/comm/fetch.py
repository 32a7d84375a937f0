"""Fetch the frames that I need from the ranks that own them: the one communication verb of the layers.

Every rank knows from the plan, and so without asking, which frames each rank wants. One `all_to_all_single` with split
sizes moves them all. It is asynchronous: work on owned frames can go on until `wait`.
"""

from dataclasses import dataclass, field

import torch
import torch.distributed as dist

from .group import Group


@dataclass(frozen=True)
class Route:
    """Which frames move between which ranks: the same on every rank, from the plan alone."""

    clips: tuple[range, ...]
    wanted: tuple[tuple[int, ...], ...]  # by rank: frame numbers of the whole video, own ones allowed

    def between(self, owner: int, taker: int) -> tuple[int, ...]:
        """Return the frames, ascending, that `owner` sends to `taker`."""
        if owner == taker:
            return ()
        clip = self.clips[owner]
        return tuple(sorted({frame for frame in self.wanted[taker] if frame in clip}))


@dataclass(frozen=True)
class Lane:
    """A route as one rank drives it."""

    clip: range
    send: torch.Tensor  # own frames by place in the clip, peer after peer
    send_counts: tuple[int, ...]
    receive_counts: tuple[int, ...]
    arrivals: tuple[int, ...]  # frame numbers of what comes, peer after peer
    places: dict[int, int] = field(repr=False)  # frame number -> place in `own + arrivals`


def drive(route: Route, rank: int, device: torch.device) -> Lane:
    """Work out one rank's part of a route."""
    peers = range(len(route.clips))
    clip = route.clips[rank]
    send = [[frame - clip.start for frame in route.between(rank, peer)] for peer in peers]
    come = [route.between(peer, rank) for peer in peers]
    arrivals = tuple(frame for frames in come for frame in frames)
    return Lane(
        clip=clip,
        send=torch.tensor([place for places in send for place in places], dtype=torch.long, device=device),
        send_counts=tuple(map(len, send)),
        receive_counts=tuple(map(len, come)),
        arrivals=arrivals,
        places={frame: place for place, frame in enumerate([*clip, *arrivals])},
    )


@dataclass
class Pending:
    """Frames on their way."""

    group: Group
    work: dist.Work | None
    inbox: torch.Tensor
    outbox: torch.Tensor | None  # lives as long as it may be read
    note: torch.Tensor | None
    frame_shape: torch.Size
    dim: int
    counts: tuple[int, ...]

    def wait(self, note: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the frames that came, along `dim` in the order of `lane.arrivals`, and the notes of all ranks (R, ...).

        `note` takes the place of the own one. Safe to call twice.
        """
        if self.work is not None:
            with self.group.waiting():
                self.work.wait()
            self.work = self.outbox = None
        own = self.note if note is None else note
        size, header = self.frame_shape.numel(), 0 if own is None else _header(own, self.inbox.dtype)
        frames, notes, at = [], [], 0
        for peer, count in enumerate(self.counts):
            if own is not None and peer == self.group.rank:
                notes.append(own)
            elif own is not None:
                # A clone begins its own storage, aligned for any type, which a view from the middle may not be.
                notes.append(self.inbox[at : at + header].clone().view(own.dtype).view_as(own))
                at += header
            if count:
                frames.append(self.inbox[at : at + count * size].view(count, *self.frame_shape))
            at += count * size
        none = self.inbox[:0].view(0, *self.frame_shape)
        arrived = frames[0] if len(frames) == 1 else torch.cat([none, *frames])
        return arrived.movedim(0, self.dim), None if own is None else torch.stack(notes)


def fetch(x: torch.Tensor, dim: int, lane: Lane, group: Group, *, note: torch.Tensor | None = None) -> Pending:
    """Start to fetch what `lane` says along `dim` of the own frames `x`; collective, the same call on every rank.

    `note`, a small float32 tensor of one shape on all ranks, goes to everyone in the same message. Raises PeerLost, here or
    in `wait`, if a rank is gone.
    """
    frames = x.movedim(dim, 0)
    shape = frames.shape[1:]
    size, header = shape.numel(), 0 if note is None else _header(note, x.dtype)
    others = [int(peer != group.rank) for peer in range(group.size)]
    out_sizes = [count * size + header * other for count, other in zip(lane.send_counts, others)]
    in_sizes = [count * size + header * other for count, other in zip(lane.receive_counts, others)]
    if note is not None:
        note = note.contiguous()
    inbox = x.new_empty(sum(in_sizes))
    work = outbox = None
    if group.handle is not None:
        outbox = x.new_empty(sum(out_sizes))
        _pack(outbox, frames, lane, note, others)
        with group.waiting():
            work = dist.all_to_all_single(inbox, outbox, in_sizes, out_sizes, group=group.handle, async_op=True)
        group.meter.sent += outbox.numel() * outbox.element_size()
        group.meter.messages += 1
    return Pending(group, work, inbox, outbox, note, shape, dim, lane.receive_counts)


def _header(note: torch.Tensor, dtype: torch.dtype) -> int:
    return note.numel() * note.element_size() // dtype.itemsize


def _pack(outbox: torch.Tensor, frames: torch.Tensor, lane: Lane, note: torch.Tensor | None, others: list[int]) -> None:
    """Fill a message: for each other rank the note and the frames that it wants, gathered in place, without another copy."""
    header = outbox[:0] if note is None else note.flatten().view(outbox.dtype)
    at, sent = 0, 0
    for count, other in zip(lane.send_counts, others):
        if other:
            outbox[at : at + len(header)] = header
            at += len(header)
        if count:
            part = outbox[at : at + count * frames[0].numel()].view(count, *frames.shape[1:])
            torch.index_select(frames, 0, lane.send[sent : sent + count], out=part)
            at, sent = at + part.numel(), sent + count
