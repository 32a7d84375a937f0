"""Fetch the frames that I need from the ranks that own them: the one communication verb of the layers.

Every rank knows from the plan, and so without asking, which frames each rank wants. One `all_to_all_single` with split
sizes moves them all. It is asynchronous: work on owned frames can go on until `wait`.

A message from one rank to another is a header, if there is one, and behind it the frames that the other wants.
"""

from dataclasses import dataclass, field

import torch
import torch.distributed as dist

from .group import Group


@dataclass(frozen=True)
class Routes:
    """Which frames move between which ranks: the same on every rank, from the plan alone."""

    clips: tuple[range, ...]
    wanted: tuple[tuple[int, ...], ...]  # by rank: frame numbers of the whole video, own ones allowed

    def between(self, owner: int, taker: int) -> tuple[int, ...]:
        """Return the frames, ascending, that `owner` sends to `taker`."""
        if owner == taker:
            return ()
        clip = self.clips[owner]
        return tuple(sorted({frame for frame in self.wanted[taker] if frame in clip}))

    def of(self, rank: int, device: torch.device) -> "Route":
        """Return one rank's part of them."""
        peers = range(len(self.clips))
        clip = self.clips[rank]
        sent = [self.between(rank, peer) for peer in peers]
        received = [self.between(peer, rank) for peer in peers]
        sent_places = [frame - clip.start for frames in sent for frame in frames]
        arrivals = tuple(frame for frames in received for frame in frames)
        return Route(
            send_places=torch.tensor(sent_places, dtype=torch.long, device=device),
            send_counts=tuple(map(len, sent)),
            receive_counts=tuple(map(len, received)),
            arrivals=arrivals,
            places={frame: place for place, frame in enumerate([*clip, *arrivals])},
        )


@dataclass(frozen=True)
class Route:
    """What one rank sends and receives."""

    send_places: torch.Tensor  # in the clip, of the frames to send, peer after peer
    send_counts: tuple[int, ...]
    receive_counts: tuple[int, ...]
    arrivals: tuple[int, ...]  # frame numbers of what comes, peer after peer
    places: dict[int, int] = field(repr=False)  # frame number -> place in `own + arrivals`


@dataclass
class Pending:
    """Frames on their way."""

    group: Group
    work: dist.Work | None
    inbox: torch.Tensor
    inbox_sizes: list[int]  # numbers from each rank, 0 from this one
    outbox: torch.Tensor | None  # lives as long as it may be read
    header: torch.Tensor | None  # this rank's own
    frame_shape: torch.Size
    dim: int

    def wait(self, header: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the frames that came, along `dim` in the order of `route.arrivals`, and the headers of all ranks (R, ...).

        `header` takes the place of the own one. May be called again: with stale context several steps read one message.
        """
        if self.work is not None:
            with self.group.waiting():
                self.work.wait()
            self.work = self.outbox = None
        own = self.header if header is None else header
        if own is None:
            return self._as_frames(self.inbox), None
        headers, bodies = [], []
        for peer, message in enumerate(self.inbox.split(self.inbox_sizes)):
            header, body = own, message  # from this rank itself, whose message is empty
            if peer != self.group.rank:
                header, body = _split(message, own)
            headers.append(header)
            bodies.append(body)
        return self._as_frames(_join(bodies)), torch.stack(headers)

    def _as_frames(self, numbers: torch.Tensor) -> torch.Tensor:
        return numbers.view(-1, *self.frame_shape).movedim(0, self.dim)


def fetch(x: torch.Tensor, dim: int, route: Route, group: Group, *, header: torch.Tensor | None = None) -> Pending:
    """Start to fetch what `route` says along `dim` of the own frames `x`; collective, the same call on every rank.

    `header`, a small float32 tensor of one shape on all ranks, goes to everyone in the same message. Raises PeerLost, here or
    in `wait`, if a rank is gone.
    """
    frames = x.movedim(dim, 0)
    header = None if header is None else header.contiguous()
    outbox_sizes = _sizes(route.send_counts, frames, header, group)
    inbox_sizes = _sizes(route.receive_counts, frames, header, group)
    inbox = x.new_empty(sum(inbox_sizes))
    work = outbox = None
    if group.handle is not None:
        outbox = x.new_empty(sum(outbox_sizes))
        _pack(outbox.split(outbox_sizes), frames, route, header)
        with group.waiting():
            work = dist.all_to_all_single(inbox, outbox, inbox_sizes, outbox_sizes, group=group.handle, async_op=True)
        group.meter.sent += outbox.numel() * outbox.element_size()
        group.meter.messages += 1
    return Pending(group, work, inbox, inbox_sizes, outbox, header, frames.shape[1:], dim)


def _sizes(counts: tuple[int, ...], frames: torch.Tensor, header: torch.Tensor | None, group: Group) -> list[int]:
    """Return the numbers in the message to or from each rank, of so many frames; there is none between a rank and itself."""
    frame, head = frames.shape[1:].numel(), 0 if header is None else _header_numbers(header, frames.dtype)
    return [0 if peer == group.rank else head + count * frame for peer, count in enumerate(counts)]


def _header_numbers(header: torch.Tensor, dtype: torch.dtype) -> int:
    """Return how many numbers of a type a header takes in a message."""
    return header.numel() * header.element_size() // dtype.itemsize


def _split(message: torch.Tensor, own_header: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the header of a message, in the form of this rank's own, and the numbers behind it."""
    length = _header_numbers(own_header, message.dtype)
    # A clone begins its own storage, aligned for any type, which a view from the middle may not be.
    header = message[:length].clone().view(own_header.dtype).view_as(own_header)
    return header, message[length:]


def _join(bodies: list[torch.Tensor]) -> torch.Tensor:
    """Return the numbers from all ranks, rank after rank; without a copy where they all come from one, as between two ranks."""
    filled = [body for body in bodies if len(body)]
    return filled[0] if len(filled) == 1 else torch.cat(bodies)


def _pack(messages: tuple[torch.Tensor, ...], frames: torch.Tensor, route: Route, header: torch.Tensor | None) -> None:
    """Fill the messages to all ranks; frames are gathered in place, without another copy."""
    head = frames.new_empty(0) if header is None else header.flatten().view(frames.dtype)
    for message, places in zip(messages, route.send_places.split(route.send_counts)):
        if len(message):  # the one to this rank is empty
            message[: len(head)] = head
        if len(places):
            body = message[len(head) :].view(len(places), *frames.shape[1:])
            torch.index_select(frames, 0, places, out=body)
