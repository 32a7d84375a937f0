"""What travels between the host and its ranks: frozen, validated once, to and from JSON; never a pickle."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from ..families.table import ModelFolder
from ..job.job import Frozen, Job

Phase = Literal["load", "encode", "denoise", "decode"]
BlockType = Literal["float32", "uint8", "int64"]
Fault = Literal["peer", "memory", "device", "overflow", "out_of_step", "crash"]
SLOTS = 2  # of a snapshot: one is whole while the other is written
MARK_ROWS = SLOTS + 2


class BlockHandle(Frozen):
    """Where a shared block is, and what it holds (blocks.py)."""

    path: str
    shape: tuple[int, ...]
    dtype: BlockType


class Start(Frozen):
    """The first thing that a rank reads, on its standard input: who it is and where the host listens."""

    rank: int
    world_size: int
    device: str
    threads: int | None
    generation: int
    store_port: int
    channel_port: int
    key: str = Field(repr=False)


class Work(Frozen):
    """Host to rank: make your clip of this video and leave it in the blocks.

    The model comes as the host inspected it, once, at the door: what it refused there no rank has to refuse again.
    """

    kind: Literal["work"] = "work"
    number: int
    job: Job
    model: ModelFolder
    latents: BlockHandle
    frames: BlockHandle | None = None
    most_held: int | None = Field(None, ge=1, description="frames of a rank's clip that may wait for the host to take them")
    init: BlockHandle | None = None
    init_is_latents: bool = False
    keyframes: BlockHandle | None = None
    embeddings: BlockHandle | None = None
    picture_tokens: BlockHandle | None = None
    planes: BlockHandle | None = None
    marks: BlockHandle | None = None
    resume: int = Field(0, ge=0, description="steps that a snapshot holds already")


class Stop(Frozen):
    """Host to rank: end the running job between two steps."""

    kind: Literal["stop"] = "stop"
    number: int


class Hello(Frozen):
    """Rank to host: the first message on a channel says whose it is."""

    kind: Literal["hello"] = "hello"
    rank: int


class Ready(Frozen):
    """Rank to host: all ranks have met, send work."""

    kind: Literal["ready"] = "ready"
    rank: int


class Step(Frozen):
    """Rank to host: `step` of `steps` of a phase is done."""

    kind: Literal["step"] = "step"
    number: int
    rank: int
    phase: Phase
    step: int
    steps: int


class Notice(Frozen):
    """Rank to host: something that the user should know of this job, and that does not end it. Ranks may say the same."""

    kind: Literal["notice"] = "notice"
    number: int
    rank: int
    text: str


class RankReport(Frozen):
    """What a job cost on one rank: seconds by phase, communication, and peak memory in bytes.

    On CUDA, `waited_seconds` is what the CPU waited, not the stream. The peak is of the job on CUDA, of the process's
    whole life on the CPU.
    """

    rank: int
    seconds: dict[str, float]
    waited_seconds: float
    sent_bytes: int
    messages: int
    peak_memory_bytes: int


class Done(Frozen):
    """Rank to host: my clip is in the blocks (or, with `stopped`, is not and won't be)."""

    kind: Literal["done"] = "done"
    number: int
    rank: int
    stopped: bool
    report: RankReport


class Failed(Frozen):
    """Rank to host: I crashed. `peer` is another rank's loss; `overflow` (the job's numbers) and `out_of_step` blame no rank."""

    kind: Literal["failed"] = "failed"
    number: int
    rank: int
    fault: Fault
    message: str
    traceback: str


Message = Annotated[Work | Stop | Hello | Ready | Step | Notice | Done | Failed, Field(discriminator="kind")]
_messages: TypeAdapter[Message] = TypeAdapter(Message)


def to_bytes(message: Frozen) -> bytes:
    """Return a message as JSON."""
    return message.model_dump_json().encode()


def from_bytes(data: bytes) -> Message:
    """Return the message that JSON `data` holds; raise pydantic's ValidationError if it holds none."""
    return _messages.validate_json(data)
