"""Weights that wait in host memory: a whole module comes for as long as it is used, blocks of a net one ahead of their turn.

What waits keeps its place in host memory while a copy is at work: nothing is written back, and where weights are mapped files, as
safetensors maps them, all ranks of a machine share one copy.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from ..maths.slices import BLOCKS_AT_ONCE

ALIGNED = 256  # bytes, of a tensor's place in a slot: what fast kernels want


def tensors_of(module: nn.Module) -> list[torch.Tensor]:
    """Return a module's parameters and buffers, each once."""
    return list({id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}.values())


@contextmanager
def borrowed(tensors: Iterable[torch.Tensor], device: torch.device) -> Iterator[None]:
    """Have copies of some tensors on a device inside the block, in their place; those that are there already stay as they are."""
    waiting = [(tensor, tensor.data) for tensor in tensors if tensor.device != device]
    try:
        for tensor, host in waiting:
            tensor.data = host.to(device)
        yield
    finally:
        for tensor, host in waiting:
            tensor.data = host


@contextmanager
def block_by_block(net: nn.Module, blocks: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Have a net on a device inside the block, but for those of its blocks whose turn is not near.

    The blocks are called in their order, again and again, by one or two callers that are at most one block apart.
    """
    of_blocks = {id(tensor) for block in blocks for tensor in tensors_of(block)}
    with ExitStack() as stack:
        stack.enter_context(borrowed((tensor for tensor in tensors_of(net) if id(tensor) not in of_blocks), device))
        waiting = WaitingBlocks(blocks, device)
        stack.callback(waiting.close)
        for number, block in enumerate(blocks):
            stack.enter_context(_hooked(waiting, number, block))
        yield


@contextmanager
def _hooked(waiting: "WaitingBlocks", number: int, block: nn.Module) -> Iterator[None]:
    """Have a block come before each of its calls, and go after it."""
    before = block.register_forward_pre_hook(lambda *_: waiting.enter(number))
    after = block.register_forward_hook(lambda *_: waiting.leave(number))
    try:
        yield
    finally:
        before.remove()
        after.remove()


@dataclass
class Slot:
    """Room on the device for any one of the blocks."""

    room: torch.Tensor  # bytes
    block: int | None = None  # whose weights it holds, or will hold when `coming` is done
    users: int = 0  # callers that are in the block
    coming: "Future[torch.cuda.Event | None] | None" = None
    left: "torch.cuda.Event | None" = None  # when the device has done what the last user asked of it


@dataclass
class Waiting:
    """A block's tensors in host memory, and where in a slot each goes."""

    tensors: list[torch.Tensor]
    hosts: list[torch.Tensor] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    size: int = 0

    def __post_init__(self) -> None:
        for tensor in self.tensors:
            self.hosts.append(tensor.data)
            self.places.append(self.size)
            self.size += -(-tensor.nbytes // ALIGNED) * ALIGNED

    def views(self, room: torch.Tensor) -> list[torch.Tensor]:
        """Return the tensors' places in some bytes, each in its shape and type."""
        each = zip(self.hosts, self.places)
        return [room[place : place + host.nbytes].view(host.dtype).view(host.shape) for host, place in each]


class WaitingBlocks:
    """The blocks of a net in host memory, and a few slots on a device that they take turns in."""

    def __init__(self, blocks: Sequence[nn.Module], device: torch.device):
        self.device = device
        self.blocks = [Waiting(tensors_of(block)) for block in blocks]
        size = max(block.size for block in self.blocks)
        self.slots = [
            Slot(torch.empty(size, dtype=torch.uint8, device=device)) for _ in range(min(BLOCKS_AT_ONCE, len(blocks)))
        ]
        self._lock = threading.Lock()  # branches of guidance are on threads of their own
        self._copier = Copier(size, device)

    def enter(self, number: int) -> None:
        """Put a block's weights in their place, and have the next block's come meanwhile."""
        with self._lock:
            rear = self._rearmost(number)
            slot = self._find(number) or self._bring(number, self._spare(rear))
            slot.users += 1
            self._bring_if_nearer((number + 1) % len(self.blocks), rear)
        assert slot.coming is not None
        there = slot.coming.result()
        if there is not None:
            torch.cuda.current_stream(self.device).wait_event(there)
        block = self.blocks[number]
        for tensor, view in zip(block.tensors, block.views(slot.room)):
            tensor.data = view

    def leave(self, number: int) -> None:
        """Put a block's weights back into host memory when the last caller has left it."""
        with self._lock:
            slot = self._find(number)
            assert slot is not None, "it was entered"
            slot.users -= 1
            if slot.users:
                return
            if self.device.type == "cuda":
                slot.left = torch.cuda.current_stream(self.device).record_event()
        self._put_back(self.blocks[number])

    def close(self) -> None:
        """Put all weights back into host memory, also those of blocks that a fault has left entered."""
        self._copier.close()
        for block in self.blocks:
            self._put_back(block)

    def _put_back(self, block: Waiting) -> None:
        for tensor, host in zip(block.tensors, block.hosts):
            tensor.data = host

    def _find(self, number: int) -> Slot | None:
        return next((slot for slot in self.slots if slot.block == number), None)

    def _rearmost(self, number: int) -> int:
        """Return the block that the last of all callers is in, one of whom enters `number`."""
        busy = {number, *(slot.block for slot in self.slots if slot.users and slot.block is not None)}
        return min(busy, key=lambda last: max(self._turns(last, each) for each in busy))

    def _turns(self, begin: int, block: int | None) -> int:
        """Return how many blocks after one it is another's turn; an empty slot's is later than any."""
        return len(self.blocks) if block is None else (block - begin) % len(self.blocks)

    def _spare(self, rear: int) -> Slot:
        """Return the slot, of those that nobody is in, whose block is needed last."""
        return max((slot for slot in self.slots if not slot.users), key=lambda slot: self._turns(rear, slot.block))

    def _bring(self, number: int, slot: Slot) -> Slot:
        """Have a block's weights come into a slot."""
        slot.block, slot.coming = number, self._copier.copy(self.blocks[number], slot)
        return slot

    def _bring_if_nearer(self, number: int, rear: int) -> None:
        """Have a block come if a slot holds one that is needed later."""
        if self._find(number) is None and any(not slot.users for slot in self.slots):
            spare = self._spare(rear)
            if self._turns(rear, spare.block) > self._turns(rear, number):
                self._bring(number, spare)


class Copier:
    """A thread that copies blocks into slots: through pinned memory, on a stream of its own, where the device is a GPU."""

    def __init__(self, size: int, device: torch.device):
        self.device = device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="offload")
        self._on_gpu = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if self._on_gpu else None
        self._pinned = torch.empty(size, dtype=torch.uint8, pin_memory=True) if self._on_gpu else None
        self._sent: torch.cuda.Event | None = None  # when the pinned memory may be written to again
        if self._stream is not None:  # the slots may be where kernels under way still read what was freed
            self._stream.wait_stream(torch.cuda.current_stream(device))

    def copy(self, block: Waiting, slot: Slot) -> "Future[torch.cuda.Event | None]":
        """Begin to copy a block into a slot; the result is when the device has it, None where that is at once."""
        return self._thread.submit(self._copy_by_gpu if self._on_gpu else self._copy, block, slot.room, slot.left)

    def close(self) -> None:
        """End the thread, after what it has begun; the slots may go then."""
        self._thread.shutdown(cancel_futures=True)
        if self._stream is not None:
            self._stream.synchronize()

    def _copy(self, block: Waiting, room: torch.Tensor, free: "torch.cuda.Event | None") -> None:
        for host, view in zip(block.hosts, block.views(room)):
            view.copy_(host)

    def _copy_by_gpu(self, block: Waiting, room: torch.Tensor, free: "torch.cuda.Event | None") -> "torch.cuda.Event":
        assert self._pinned is not None and self._stream is not None
        if self._sent is not None:
            self._sent.synchronize()
        self._copy(block, self._pinned, None)
        with torch.cuda.stream(self._stream):
            if free is not None:
                self._stream.wait_event(free)
            room[: block.size].copy_(self._pinned[: block.size], non_blocking=True)
            self._sent = self._stream.record_event()
        return self._sent
