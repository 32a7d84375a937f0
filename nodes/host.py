"""The only file that asks ComfyUI for things: folders, progress and preview, interrupt, memory."""

from pathlib import Path

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP
from comfy_execution.utils import get_executing_context
from PIL import Image
from server import PromptServer

from ..parallel.errors import JobRefused, Stopped
from ..parallel.plan import keys_notice, plan
from ..parallel.pool import Pool, Video
from ..parallel.pool.devices import resolve
from ..parallel.protocol import Job, Step
from . import folders
from .sockets import RanksChoice

BUNDLED = "moving-shapes (bundled)"
STRIP_FRAMES = 8  # of the whole video, on a preview
PHASE_SHARES = {"load": 0.0, "encode": 0.0, "denoise": 0.0, "decode": 0.9}  # where each phase begins on the progress bar

_warm: dict[tuple, "WarmPool"] = {}  # pools outlive a run; ComfyUI's memory manager can end them at any time


def model_folders() -> dict[str, str]:
    """Return the model folders that ComfyUI knows, by the names that users choose from; the bundled one is always there."""
    found = {BUNDLED: str(Path(__file__).resolve().parents[1] / "assets" / "moving-shapes")}
    for root in folder_paths.get_folder_paths("diffusers"):
        found |= {name: place for name, place in folders.named(root).items() if name not in found}
    return found


def fitting_dtype() -> str:
    """Return the type that suits the ranks that `auto` chooses: half precision on GPUs."""
    return "float16" if torch.cuda.is_available() else "float32"


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


def run(job: Job, choice: RanksChoice, *, init: torch.Tensor | None = None) -> Video:
    """Run a job on the chosen ranks with ComfyUI's progress bar, preview and Cancel.

    Raises ComfyUI's InterruptProcessingException when the user cancels, all ranks having stopped; ours otherwise.
    """
    devices = resolve(choice.devices)
    warm = _warm_pool(devices, choice.threads or None)
    progress = Progress(job)
    warm.enlist(plan(job, len(devices)).memory.peak)
    notice = keys_notice(job) if job.num_inference_steps else None
    if notice is not None:
        tell(notice)
    try:
        video = warm.pool.run(job, init=init, on_step=progress, on_notice=tell, should_stop=progress.is_cancelled)
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
    """ComfyUI's progress bar, with a strip of frames from the whole video as preview."""

    def __init__(self, job: Job):
        self.decodes = job.decode
        self.bar = comfy.utils.ProgressBar(1000)
        self.ranks: dict[int, float] = {}
        self.cancelled = False

    def is_cancelled(self) -> bool:
        """Return whether the user pressed Cancel. Call it on the node's own thread only."""
        return self.cancelled or comfy.model_management.processing_interrupted()

    def __call__(self, step: Step, latents_CTHW: torch.Tensor) -> None:
        """Show a step. The slowest rank counts."""
        span = 0.0 if step.phase in ("load", "encode") else 0.1 if step.phase == "decode" else 0.9 if self.decodes else 1.0
        self.ranks[step.rank] = PHASE_SHARES[step.phase] + span * step.step / max(1, step.steps)
        preview = None
        if step.rank == 0 and step.phase == "denoise" and step.step:
            preview = ("JPEG", strip(latents_CTHW), None)
        try:
            self.bar.update_absolute(int(1000 * min(self.ranks.values())), preview=preview)
        except comfy.model_management.InterruptProcessingException:
            self.cancelled = True  # the bar reads Cancel, and forgets it: the ranks are to end the step first


def tell(text: str) -> None:
    """Write a line on the node that runs."""
    context = get_executing_context()
    if context is not None and PromptServer.instance is not None:
        PromptServer.instance.send_progress_text(text, context.node_id)


def strip(latents_CTHW: torch.Tensor) -> Image.Image:
    """Return frames spread over the whole video side by side: three latent channels, stretched to the range of colours."""
    frames = latents_CTHW.shape[1]
    chosen = torch.linspace(0, frames - 1, min(STRIP_FRAMES, frames)).round().long()
    shown = latents_CTHW[:3, chosen].float()
    low, high = shown.amin((1, 2, 3), keepdim=True), shown.amax((1, 2, 3), keepdim=True)
    colours = ((shown - low) / (high - low).clamp(min=1e-6) * 255).to(torch.uint8)
    row = colours.permute(2, 1, 3, 0).flatten(1, 2)  # H, frames x W, C
    if row.shape[-1] < 3:
        row = row[..., :1].expand(-1, -1, 3)
    picture = Image.fromarray(row.contiguous().numpy())
    return picture.resize((picture.width * 8, picture.height * 8), Image.Resampling.NEAREST)


def refused(check) -> bool | str:
    """Return True if a check passes, else what it says: the form that a node's `validate_inputs` answers in."""
    try:
        check()
    except JobRefused as error:
        return str(error)
    return True
