"""Hostile inputs by kind. Each is tried against the door that it would come to, and must be refused in words."""

import json
import os
import random
import shutil
import socket
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from parallel.cli import arguments, inits, request
from parallel.families import folder, weight_files
from parallel.job import timeline
from parallel.job.errors import JobRefused
from parallel.job.job import Job, Prompt, checked
from parallel.pool import snapshot_file
from parallel.pool.devices import resolve
from parallel.pool.door import Door
from parallel.wire import channel as wire
from parallel.wire.messages import Hello

Try = tuple[str, Callable[[], object]]
Change = Callable[[Path], object]
OUTSIDE = (
    "../../etc/passwd",
    "/etc/passwd",
    "..\\..\\windows",
    "~/.ssh",
    "a\0b",
    "file:///etc/passwd",
    "\\\\host\\share",
    "//host/x",
)


def values(model: Path) -> dict:
    """Return a good job's values."""
    prompts = (Prompt(frame=0, text="a"),)
    return {"model": str(model), "prompts": prompts, "frames": 4, "height": 16, "width": 16}


def jobs(model: Path) -> Iterator[Try]:
    """Yield jobs that ask for the absurd."""
    nan, inf = float("nan"), float("inf")
    wrong = {
        "frames": [0, -1, 10**9, 2**63, nan, "x", None],
        "height": [0, -8, 10**9, nan],
        "width": [0, -8, 10**9],
        "guidance_scale": [nan, inf, -1.0, 1e9],
        "fps": [nan, 0.0, -1.0, inf, 1e9],
        "num_inference_steps": [-1, 10**9],
        "seed": [-1, 2**64],
        "denoise": [nan, 0.0, 2.0],
        "negative": ["x" * 2**20, "\0", "\x1b[2J", "\ud800"],
        "prompts": [(), [{"frame": 0, "text": "x" * 2**20}], [{"frame": 0, "text": "\x1b]0;owned\x07"}]],
        "dtype": ["int8", "float32; import os"],
        "scheduler": ["__class__", "HeunDiscreteScheduler"],
        "noise": [{"kind": "pink"}, {"window": 10}, {"stride": 0}, {"share": nan}, {"share": 1.1}, {"seed": 1}, "mixed", None],
        "scope": [
            {"local_context": -1},
            {"global_frames": 10**12},
            {"local_bias": (nan, 0)},
            {"trained_frames": 0},
            {"model_frames": 0},
        ],
        "tuning": [{"frames_at_once": 0}, {"stale_after": 10**9}, {"reuse_every": 0}, {"x": 1}],
        "__class__": ["x"],
    }
    for name, tries in wrong.items():
        for value in tries:
            yield f"{name}={str(value)[:30]!r}", lambda change={name: value}: checked(Job, **{**values(model), **change})
    for outside in OUTSIDE:
        yield f"model={outside!r}", lambda bad=outside: folder.check(checked(Job, **{**values(model), "model": bad}), 1)
        yield f"parts={outside!r}", lambda bad=outside: folder.inspect(str(model / "unet"), bad)
        yield f"devices={outside!r}", lambda bad=outside: resolve(bad)


def timelines() -> Iterator[Try]:
    """Yield timelines that are none."""
    texts = [
        "", "0:", ":", "a", "0 a", "-1: a", "0: a\n0: b", "0: a\n10: b", "1e9: a", "nan: a", "0: a\n9999999999: b", "0: " + "x" * 2**20,
        "0: a\0", "0: \x1b[31mred", "0: a\n\x00", "\u0663: a", "0: a\n1.5: b", "0x10: a", "0: a\n4s: b", "0" * 10**6 + ": a", "0: a\n" * 10**5,
    ]  # fmt: skip
    for text in texts:
        yield repr(text[:20]), lambda text=text: timeline.parse(text, fps=8, frames=10)
    for fps in (0.0, -1.0, float("nan"), float("inf"), 1e9):
        yield f"fps {fps}", lambda fps=fps: timeline.parse("0: a", fps=fps, frames=10)


def copied(model: Path, work: Path, name: str, change: Change) -> Try:
    """Return the try of a copy of a model folder in which something is changed."""
    copy = shutil.copytree(model, work / name.replace("/", "_"))
    change(copy)
    return name, lambda: folder.check(checked(Job, **{**values(model), "height": 64, "width": 64, "model": str(copy)}), 1)


def says(file: str, **said) -> Change:
    """Return a change of what a JSON file says."""
    return lambda copy: (copy / file).write_text(json.dumps({**json.loads((copy / file).read_text()), **said}))


def links(file: str, target: str) -> Change:
    """Return a change of a file into a link."""
    return lambda copy: ((copy / file).unlink(missing_ok=True), (copy / file).symlink_to(target))


def pickled(part: str, suffix: str) -> Change:
    """Return a change of a part's weights into pickles, by name."""
    return lambda copy: [file.rename(file.with_suffix(suffix)) for file in (copy / part).glob("*.safetensors")]


def model_folders(model: Path, work: Path) -> Iterator[Try]:
    """Yield model folders that would run code, read elsewhere, or ask for absurd sizes."""

    changed = partial(copied, model, work)
    for part in ("unet", "vae", "text_encoder"):
        weights = next((model / part).glob("*.safetensors")).name
        data = (model / part / weights).read_bytes()
        for suffix in weight_files.PICKLES:
            yield changed(f"{part} {suffix}", pickled(part, suffix))
        yield changed(f"{part} links out", links(f"{part}/{weights}", "/etc/hostname"))
        yield changed(f"{part} runs code", says(f"{part}/config.json", auto_map={"AutoModel": "evil.Model"}))
        broken = {
            "cut": data[:-9],
            "empty": b"",
            "huge header": struct.pack("<Q", 2**62) + data[8:],
            "garbage": os.urandom(200),
        }
        for kind, bad in broken.items():
            yield changed(f"{part} {kind}", lambda copy, file=f"{part}/{weights}", bad=bad: (copy / file).write_bytes(bad))
    absurd = (10**12, [10**9, 10**9], float("inf"), [32] * 1000)
    for number, size in enumerate(absurd):
        yield changed(f"wide unet {number}", says("unet/config.json", block_out_channels=size))
        yield changed(f"wide vae {number}", says("vae/config.json", block_out_channels=size))
        yield changed(f"deep unet {number}", says("unet/config.json", layers_per_block=size))
        yield changed(f"text encoder {number}", says("text_encoder/config.json", num_hidden_layers=size))
    yield changed("long config", lambda copy: (copy / "unet/config.json").write_text(" " * 2**21))
    yield changed("nested config", lambda copy: (copy / "unet/config.json").write_text("[" * 10**5))
    yield changed("tokenizer runs code", says("tokenizer/tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]}))
    yield changed("scheduler runs code", says("scheduler/scheduler_config.json", _class_name="evil.Scheduler"))
    yield changed("scheduler remembers all", says("scheduler/scheduler_config.json", solver_order=10**9))
    yield changed("config links out", links("unet/config.json", "/etc/passwd"))
    yield changed(
        "tokenizer links out", lambda copy: (shutil.rmtree(copy / "tokenizer"), (copy / "tokenizer").symlink_to("/etc"))
    )


def init_videos(work: Path) -> Iterator[Try]:
    """Yield init files that are bombs or garbage."""

    def read(file: Path) -> Callable[[], object]:
        return lambda: inits.read(file, height=16, width=16, most=9)

    for suffix in (".mp4", ".webm", ".webp", ".png", ".gif", ".avi"):
        for kind, data in {
            "empty": b"",
            "garbage": random.Random(0).randbytes(5000),
            "text": b"#EXTM3U\nfile:///etc/passwd",
        }.items():
            file = work / f"{kind}{suffix}"
            file.write_bytes(data)
            yield file.name, read(file)
    bomb = work / "bomb.png"
    Image.fromarray(np.zeros((9000, 9000), np.uint8)).save(bomb)
    yield bomb.name, read(bomb)
    liar = work / "liar.png"
    data = bytearray(bomb.read_bytes())
    data[16:24] = struct.pack(">II", 2**30, 2**30)
    liar.write_bytes(bytes(data))
    yield liar.name, read(liar)
    sound = work / "sound.mp4"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    yield sound.name, read(sound)
    playlist = work / "list.m3u8"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/passwd\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n")
    yield playlist.name, read(playlist)
    yield "a folder of text", read(work.parent)


def snapshots(model: Path, work: Path) -> Iterator[Try]:
    """Yield snapshots that are not what they say."""
    good = checked(Job, **values(model))
    said = {"format": snapshot_file.FORMAT, "job": good.model_dump_json(), "step": "3"}
    planes = torch.zeros(1, 4, 4, 8, 8)

    def stored(name: str, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> Try:
        file = work / f"{name}.safetensors"
        save_file(tensors, file, metadata=metadata)
        return name, lambda: snapshot_file.load(file)

    for number, shape in enumerate([(1,), (1, 4, 4, 8, 9), (2, 4, 4, 8, 8), (1, 4, 5, 8, 8), ()]):
        yield stored(f"shape {number}", {"planes": torch.zeros(shape)}, said)
    for kind in (torch.float16, torch.int64, torch.bool):
        yield stored(f"type {kind}", {"planes": planes.to(kind)}, said)
    for number in (float("nan"), float("inf"), -float("inf")):
        yield stored(f"holds {number}", {"planes": planes.index_fill(1, torch.tensor([2]), number)}, said)
    for step in ("-1", "0", "21", "9" * 4000, "x", ""):
        yield stored(f"step {step[:5]}", {"planes": planes}, {**said, "step": step})
    for number, bad in enumerate(
        ["", "{}", "[]", "null", "{" * 10**5, good.model_dump_json().replace('"frames":4', '"frames":1000000000')]
    ):
        yield stored(f"job {number}", {"planes": planes}, {**said, "job": bad})
    escapes = good.model_copy(update={"model": "/etc"}).model_dump_json()
    yield stored("job elsewhere", {"planes": planes}, {**said, "job": escapes})
    yield stored("other format", {"planes": planes}, {**said, "format": "2"})
    yield stored("no words", {"planes": planes}, {})
    yield stored("more tensors", {"planes": planes, "x": planes + 1}, said)
    file = work / "good.safetensors"
    save_file({"planes": planes}, file, metadata=said)
    assert snapshot_file.load(file).step == 3, "all but these are good"
    data, chance = file.read_bytes(), random.Random(1)
    length = int.from_bytes(data[:8], "little")
    for number in range(40):
        bad = bytearray(data)
        bad[chance.randrange(8)] ^= 1 << chance.randrange(8)  # the header's length
        other = work / f"bit {number}.safetensors"
        other.write_bytes(bad)
        yield other.stem, lambda other=other: snapshot_file.load(other)
    for number in range(40):
        other = work / f"cut {number}.safetensors"
        other.write_bytes(data[: chance.randrange(len(data))] if number % 2 else data[: 8 + chance.randrange(length)])
        yield other.stem, lambda other=other: snapshot_file.load(other)


def command_lines() -> Iterator[Try]:
    """Yield command lines whose files are not there, or whose options contradict each other."""
    for words in (
        ["--resume", "/nowhere", "--prompt", "x"],
        ["--prompt", "x", "--timeline", "y"],
        [],
        ["--timeline", "/proc/self/mem"],
        ["--prompt", "x", "--noise", "pink"],
        ["--prompt", "x", "--noise-stride", "0"],
    ):
        args = arguments.build_parser().parse_args(["generate", *words])
        check = request.check_resume if args.resume else request.build_job
        yield " ".join(words) or "nothing", lambda args=args, check=check: check(args)


def strangers() -> dict[str, bytes | None]:
    """Return what strangers say to the rank channel; None: nothing."""
    frame = lambda data: struct.pack("!i", len(data)) + data  # noqa: E731
    chance = random.Random(2)
    said = {
        "nothing": None,
        "half a frame": b"\0\0",
        "a huge frame": struct.pack("!i", 2**31 - 1) + b"x",
        "a longer frame": struct.pack("!i", -1) + struct.pack("!Q", 2**62),
        "a wrong digest": frame(b"#CHALLENGE#" + b"x" * 40),
        "a welcome": frame(b"#WELCOME#"),
        "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "a hello without the key": frame(Hello(rank=0).model_dump_json().encode()),
    }
    return said | {f"garbage {number}": chance.randbytes(chance.randrange(1, 500)) for number in range(30)}


def call(door: Door, said: bytes | None) -> socket.socket:
    """Let a stranger call; the caller closes the socket, or never does."""
    stranger = socket.create_connection((wire.HOST, door.port), timeout=5)
    if said is not None:
        stranger.sendall(said)
    return stranger


def attempt(what: Callable[[], object]) -> str:
    """Return "refused", "accepted", or the exception that nobody should see."""
    try:
        what()
    except JobRefused as refused:
        return "refused" if 10 < len(str(refused)) < 1000 else f"said {len(str(refused))} characters"
    except Exception as error:  # the point of it: what else might come
        return f"crashed: {type(error).__name__}: {error}"
    return "accepted"
