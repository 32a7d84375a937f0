"""What asks ComfyUI for things: progress and preview, interrupt, memory; its folders are in host_folders.py."""

import logging
import time
from pathlib import Path

import comfy.model_management
import comfy.utils
import torch
from comfy import latent_formats
from comfy.cli_args import LatentPreviewMethod
from comfy.cli_args import args as comfy_args
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP
from comfy_execution.graph_utils import ExecutionBlocker
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ..parallel.families.table import ModelFolder
from ..parallel.job.errors import JobRefused, Stopped
from ..parallel.job.job import Job
from ..parallel.plan import notices, plan
from ..parallel.pool import Pool, Video
from ..parallel.pool.devices import resolve
from ..parallel.pool.movie import Movie
from ..parallel.wire.messages import Step
from . import host_folders
from .preview import Colours, grid, is_format_of, stored_colours
from .sockets import RanksChoice
from .status import Status, duration, starting

log = logging.getLogger(__name__)
TEXT_SECONDS = 0.5  # between two texts of one phase
KNOWN_VAES = (latent_formats.SD15, latent_formats.SDXL, latent_formats.Wan21, latent_formats.Wan22)
PHASE_SHARES = {"load": 0.0, "encode": 0.0, "denoise": 0.0, "decode": 0.9}  # where each phase begins on the progress bar

_warm: dict[tuple, "WarmPool"] = {}  # pools outlive a run; ComfyUI's memory manager can end them at any time


def fitting_dtype(model: ModelFolder) -> str:
    """Return the type that suits a model on the ranks that `auto` chooses: its half precision on GPUs."""
    return model.half if torch.cuda.is_available() else "float32"


def free_bytes(devices: tuple[str, ...]) -> int | None:
    """Return the bytes that each of some GPUs has free, ComfyUI's own models counted out; None if one is no GPU."""
    if not devices or any(not device.startswith("cuda") for device in devices):
        return None
    return min(int(comfy.model_management.get_free_memory(torch.device(device))) for device in devices)


class WarmPool:
    """A pool that is a citizen of ComfyUI's memory manager: when that wants room, the ranks end."""

    def __init__(self, devices: tuple[str, ...], threads: int | None):
        self.pool = Pool(devices, threads)
        self.patcher: ModelPatcher | None = None

    def enlist(self, size: int) -> None:
        """Let the memory manager make room for a rank's `size` bytes, and know whom to end for more. Safe to call twice.

        It manages one GPU, where one of the ranks is; that it ends one ends all.
        """
        memory = comfy.model_management
        device = memory.get_torch_device()
        if self.patcher is None:
            self.patcher = ModelPatcher(torch.nn.Module(), device, torch.device("cpu"), size=size)
            self.patcher.add_callback(CallbacksMP.ON_DETACH, lambda *_: self.pool.stop())
        own = [loaded for loaded in memory.current_loaded_models if loaded.model is self.patcher]
        grown, self.patcher.size = size - self.patcher.size, max(size, self.patcher.size)
        if not own:
            memory.load_models_gpu([self.patcher])
        elif grown > 0:
            memory.free_memory(grown, device, keep_loaded=own)


def run(
    job: Job,
    model: ModelFolder,
    choice: RanksChoice,
    *,
    init: torch.Tensor | None = None,
    init_is_latents: bool = False,
    keyframes: torch.Tensor | None = None,
    embeddings: torch.Tensor | None = None,
    picture_tokens: torch.Tensor | None = None,
    movie: Movie | None = None,
) -> Video:
    """Run a job, with its model as it was inspected, on the chosen ranks, under ComfyUI's progress bar, preview and Cancel.

    What comes with it, and a movie, are as `Pool.run` takes them.
    Raises ComfyUI's InterruptProcessingException when the user cancels, all ranks having stopped; ours otherwise.
    """
    devices = resolve(choice.devices, frames=model.geometry.latents(job.frames))
    memory = plan(job, len(devices), model).memory  # first: a job that is refused ends no other pool
    warm = _warm_pool(devices, choice.threads or None)
    warm.enlist(memory.peak)
    try:
        with Progress(job, model) as progress:
            for notice in notices(job, model):
                progress.notify(notice)
            if not warm.pool.process_ids:
                progress.say(starting(devices))
            video = warm.pool.run(
                job,
                model=model,
                init=init,
                init_is_latents=init_is_latents,
                keyframes=keyframes,
                embeddings=embeddings,
                picture_tokens=picture_tokens,
                movie=movie,
                on_step=progress,
                on_notice=progress.notify,
                should_stop=progress.is_cancelled,
            )
            if not progress.cancelled:
                return video
    except Stopped:
        comfy.model_management.interrupt_current_processing(False)
    finally:
        if not choice.keep_warm:
            warm.pool.stop()
    raise comfy.model_management.InterruptProcessingException()


def _warm_pool(devices: tuple[str, ...], threads: int | None) -> WarmPool:
    """Return the pool for some devices, and end any other: two would each hold a model on the same GPUs."""
    for key, other in _warm.items():
        if key != (devices, threads):
            other.pool.stop()
    return _warm.setdefault((devices, threads), WarmPool(devices, threads))


class Progress:
    """What ComfyUI shows of a run while it is in the `with`: the bar, a preview, and a text on the node under the notices."""

    def __init__(self, job: Job, model: ModelFolder):
        self.decodes = job.decode
        self.bar = comfy.utils.ProgressBar(1000)
        self.status = Status(host_folders.model_name(job.model))
        self.colours = known_colours(model)
        self.notices: list[str] = []
        self.said = ""
        self.shown = 0  # the step of the last preview
        self.began = self.shown_at = time.monotonic()
        self.cancelled = False

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type | None, *_) -> None:
        """Say how the run ended: a text of what it was doing would stand on the node for good."""
        stopped = self.cancelled or (kind is not None and issubclass(kind, Stopped))
        end = "stopped" if stopped else "done in" if kind is None else "failed after"
        self.say(end if stopped else f"{end} {duration(time.monotonic() - self.began)}")

    def is_cancelled(self) -> bool:
        """Return whether the user pressed Cancel. Call it on the node's own thread only."""
        return self.cancelled or comfy.model_management.processing_interrupted()

    def __call__(self, step: Step, latents_CTHW: torch.Tensor) -> None:
        """Show a step. The slowest rank counts."""
        now, before = time.monotonic(), self.status.phase
        self.status.record(step, now)
        line = self.status.line(now)
        if self.status.phase != before:
            self.say(line)
        elif now > self.shown_at + TEXT_SECONDS and line != self.said:
            self.say(line, log_it=False)
        preview = None
        if self.status.phase == "denoise" and self.status.done > self.shown and previews_wanted():
            self.shown = self.status.done
            preview = ("JPEG", grid(latents_CTHW, self.colours, comfy_args.preview_size), comfy_args.preview_size)
        share = min((self._share(each) for each in self.status.steps.values()), default=0.0)
        try:
            self.bar.update_absolute(int(1000 * share), preview=preview)
        except comfy.model_management.InterruptProcessingException:
            self.cancelled = True  # the bar reads Cancel, and forgets it: the ranks are to end the step first

    def _share(self, step: Step) -> float:
        span = 0.0 if step.phase in ("load", "encode") else 0.1 if step.phase == "decode" else 0.9 if self.decodes else 1.0
        return PHASE_SHARES[step.phase] + span * step.step / max(1, step.steps)

    def notify(self, text: str) -> None:
        """Keep a notice on the node, above what the run is doing."""
        self.notices.append(text)
        self._show()

    def say(self, line: str, *, log_it: bool = True) -> None:
        """Show what the run is doing; with `log_it`, on the console too."""
        self.said = line
        if log_it:
            log.info("Video Infinity: %s", line)
        self._show()

    def _show(self) -> None:
        self.shown_at = time.monotonic()
        show_text("\n".join(filter(None, [*self.notices, self.said])))


def show_text(text: str) -> None:
    """Write a text on the node that runs, in place of the one before."""
    context, server = get_executing_context(), PromptServer.instance
    if context is not None and server is not None:
        server.send_progress_text(text, context.node_id, server.client_id)


def blocked(why: str) -> ExecutionBlocker:
    """Return what a node gives out that has nothing there: whoever is connected to it fails, and says why."""
    return ExecutionBlocker(why)


def previews_wanted() -> bool:
    """Return whether the user wants previews: the frontend's setting of this run, else that of the command line."""
    return comfy_args.preview_method != LatentPreviewMethod.NoPreviews


def known_colours(model: ModelFolder) -> Colours | None:
    """Return the colours of a model's latents: those that come with its VAE, else ComfyUI's own for a VAE that it knows."""
    own = stored_colours(model.vae, model.latent_channels) if isinstance(model.vae, Path) else None
    known = [
        form for form in (kind() for kind in KNOWN_VAES) if is_format_of(form, model.latent_channels, model.latent_format.std)
    ]
    if own is not None or not known:
        return own
    form = known[0]
    return Colours(
        latent_rgb_factors=form.latent_rgb_factors, latent_rgb_factors_bias=form.latent_rgb_factors_bias or (0.0, 0.0, 0.0)
    )


def encode_text(clip, text: str) -> torch.Tensor:
    """Return what a CLIP makes of a text, (1, L, D), as *CLIP Text Encode* does; raise when the user cancels."""
    comfy.model_management.throw_exception_if_processing_interrupted()
    return clip.encode_from_tokens(clip.tokenize(text))


def resize(frames_FHWC: torch.Tensor, *, height: int, width: int) -> torch.Tensor:
    """Return frames in another size, as ComfyUI's own *Upscale Image* does: the middle of them, if the aspect is another."""
    scaled_FCHW = comfy.utils.common_upscale(frames_FHWC.movedim(-1, 1), width, height, "lanczos", "center")
    return scaled_FCHW.movedim(1, -1)


def refused(check) -> bool | str:
    """Return True if a check passes, else what it says: the form that a node's `validate_inputs` answers in."""
    try:
        check()
    except JobRefused as error:
        return str(error)
    return True
