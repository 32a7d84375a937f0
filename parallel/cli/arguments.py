"""The command line's grammar."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from pydantic import Field

from ..job.errors import JobRefused
from ..job.files import Lora
from ..job.job import Frozen, Job, Noise, Scope, Tuning, checked
from . import keyframes

ABOUT = "The engine without ComfyUI: make one long video on several ranks."
WEIGHTS = "(word:1.2) and ((word)) weigh as in ComfyUI; {a|b} is plain text, which only ComfyUI's editor chooses from"
TIMELINE = 'a line each, `FRAME: prompt`, `SECONDSs: prompt` or `MIN:SEC prompt`; or FizzNodes\' `"FRAME": "prompt", ...`'
BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "moving-shapes"


class Run(Frozen):
    """How a job is run, of what the command line says in numbers."""

    threads: int | None = Field(None, ge=1, le=1024)
    restarts: int = Field(2, ge=0, le=1000)
    snapshot_seconds: float = Field(60.0, ge=0, allow_inf_nan=False)


class OneLine(argparse.ArgumentParser):
    """Refuses what it can't read in one line, as everything else is refused."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}: {self.prog} --help has all options\n")


class Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Tells defaults that are values: what happens without an option that has none stands in its own help."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_none = action.default is None or action.default is False
        return action.help if has_none else super()._get_help_string(action)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's grammar. Its defaults are the Job's."""
    parser = OneLine(prog="python -m parallel", description=ABOUT)
    generate = parser.add_subparsers(dest="command", required=True).add_parser(
        "generate", help="make one long video", formatter_class=Defaults
    )
    for add_options in (
        _add_model, _add_prompts, _add_video, _add_sampling, _add_noise, _add_devices, _add_scope, _add_tuning, _add_init,
        _add_keyframes, _add_snapshot, _add_output,
    ):  # fmt: skip
        add_options(generate.add_argument)
    return parser


Add = Callable[..., object]  # a parser's add_argument


def _default(name: str) -> Any:
    """Return the default of one of the Job's fields."""
    return Job.model_fields[name].default


def _add_model(add: Add) -> None:
    lora = "a LoRA, FILE:STRENGTH (FILE alone: 1), again for each; FILE:STRENGTH:high or :low for one of Wan 2.2's two nets"
    add(
        "--model",
        default=str(BUNDLED),
        help="a diffusers model folder; or a Wan's net in one file, .safetensors or .gguf, with:",
    )
    add("--model-low", help="of Wan 2.2 A14B: the file of the net for low noise")
    add("--vae", help="the file of the VAE")
    add("--text-encoder", help="the file of the text encoder (UMT5, as ComfyUI has it)")
    add("--clip-vision", help="of Wan 2.1 from images: the file of CLIP's vision tower")
    add("--parts", help="a folder, for what the others lack (text encoder, tokenizer, VAE, scheduler)")
    add("--lora", action="append", type=_lora, metavar="FILE:STRENGTH", help=lora)


def _add_prompts(add: Add) -> None:
    add("--prompt", help=f"what is seen, in all frames; {WEIGHTS}")
    add("--timeline", help=f"a text file instead of --prompt: {TIMELINE}")
    add("--fade", type=int, default=_default("fade"), help="frames over which a prompt takes over from the one before")
    add("--negative", default=_default("negative"), help="what is not seen")


def _add_video(add: Add) -> None:
    add("--frames", type=int, default=96, help="of the whole video")
    add("--height", type=int, default=64, help="pixels: what the model was trained on")
    add("--width", type=int, default=64, help="pixels: what the model was trained on")
    add("--fps", type=float, default=_default("fps"), help="frames a second of what is written, and of a timeline's seconds")


def _add_sampling(add: Add) -> None:
    guidance = "how strictly the prompt is followed; 1: no guidance; of a model with two nets two numbers, such as 4,3: high noise, low"
    add("--steps", type=int, default=_default("num_inference_steps"), help="0: the starting noise, or the init as it is")
    add("--guidance", type=_scales, default=str(_default("guidance_scale")), help=guidance)
    add("--shift", type=float, help="of a flow schedule: more steps at high noise (default: the model's own)")
    add("--seed", type=int, default=_default("seed"), help="the same seed makes the same video, on any number of ranks")
    add("--scheduler", default=_default("scheduler"), help="model, ddim, dpmpp_2m, uni_pc, euler or euler_ancestral")


def _add_noise(add: Add) -> None:
    noise = Noise()
    add("--noise", default=noise.kind, help="independent, shuffled (FreeNoise) or mixed (PYoCo): how alike the frames begin")
    add("--noise-window", type=int, default=noise.window, help="shuffled: first frames that have their own noise")
    add("--noise-stride", type=int, default=noise.stride, help="shuffled: frames within which the order changes")
    add("--noise-share", type=float, default=noise.share, help="mixed: variance that all frames have in common, 0 to 1")
    add("--loop", action="store_true", help="the last frame leads into the first")


def _add_devices(add: Add) -> None:
    add("--devices", default="auto", help="auto, or one device a rank: cpu,cpu or cuda:0,cuda:1")
    add("--threads", type=int, help="threads of a CPU rank (default: the cores, shared out)")
    add("--dtype", default=_default("dtype"), help="float32, float16 or bfloat16")
    add(
        "--offload",
        default=_default("offload"),
        help="none; parts: what a phase does not use waits in host memory; blocks: so do a net's blocks; auto: what fits",
    )


def _add_scope(add: Add) -> None:
    scope, pair = Scope(), ("EARLY", "LATE")
    model_frames = "of a clip that the model was trained on: a note measures the scopes by it, and the video stays as it is"
    auto = {"type": _count_or_auto, "default": "auto"}
    suits = "auto: what suits the model"
    add("--local-context", **auto, help=f"frames on either side that a frame attends to; {suits}")
    add("--global-frames", **auto, help=f"frames of the whole video that all attend to; {suits}")
    add("--places", default=scope.places, help="of 3D attention, near or true: where global frames stand to a frame")
    add("--rotate", action="store_true", help="of 3D attention: global frames but the first move on by one latent a step")
    add("--full-windows", action="store_true", help="of 3D attention: windows grow at the ends and around global frames")
    add("--local-bias", type=float, nargs=2, metavar=pair, default=scope.local_bias, help="added to local keys' logits")
    add("--global-bias", type=float, nargs=2, metavar=pair, default=scope.global_bias, help="added to global keys' logits")
    add("--phase-timestep", type=int, default=scope.phase_timestep, help="timesteps above it are early")
    add("--bias-ramp", action="store_true", help="go from early to late evenly instead of at a timestep")
    add("--trained-frames", type=int, help="scale logits by log(keys) / log(this)")
    add("--model-frames", **auto, help=model_frames)


def _add_tuning(add: Add) -> None:
    tuning = Tuning()
    stale_after = "after so many exact steps use what other ranks sent before; changes the video a little"
    add(
        "--branches",
        default=tuning.branches,
        help="guidance's two calls of the net: auto, together, or apart (half the memory)",
    )
    add("--park-skips", default=tuning.park_skips, help="skip tensors wait in host memory: auto, never or always")
    add("--frames-at-once", type=int, help="frames that a spatial layer works on at once (default: what suits the device)")
    add("--pixels-at-once", type=int, help="latent pixels that a layer over frames works on at once")
    add("--stale-after", type=int, help=stale_after)
    add("--stale-for", type=int, default=tuning.stale_for, help="for how many steps what other ranks sent is used")
    add("--reuse-every", type=int, default=tuning.reuse_every, help="run deep layers every so many steps; changes the video")
    add("--travel", default=tuning.travel, help="of 3D attention, between ranks: auto, hidden_states or keys_values")
    add("--compile", action="store_true", help="torch.compile, on GPUs")


def _add_init(add: Add) -> None:
    add("--init", help="an image, a video, a folder of images, or latents (.safetensors, .latent), to start from")
    add("--denoise", type=float, default=_default("denoise"), help="share of the schedule to run on the init")
    add("--init-fit", choices=("crop", "stretch"), default="crop", help="of another aspect: use its middle, or squeeze it")


def _add_keyframes(add: Add) -> None:
    image = "a picture that a frame shows, FILE@12, FILE@1.5s or FILE@last (FILE alone: the first), again for each; FILE@12:0.5 holds it for half"
    video = "the same of all frames of a video or folder, kept as they are: FILE@0 goes on from it, FILE@last leads to it"
    add("--image", action="append", type=partial(keyframes.parse, "image"), metavar="FILE@FRAME", help=image + " of the steps")
    add("--video", action="append", type=partial(keyframes.parse, "video"), metavar="FILE@FRAME", help=video)


def _add_snapshot(add: Add) -> None:
    run = Run()
    add("--snapshot", help="also keep what is done in this file, so that --resume can go on after the machine went down")
    add("--snapshot-seconds", type=float, default=run.snapshot_seconds, help="how often the snapshot is written")
    add("--resume", help="go on from a snapshot's file: it knows its job, so give no options of the video")
    add("--restarts", type=int, default=run.restarts, help="how often lost ranks are started again")


def _add_output(add: Add) -> None:
    add("--output", default="video.mp4", help="an .mp4, .webm or .webp file, or a folder for PNG files")
    add("--latents", help="also store the final latents, as ComfyUI's SaveLatent does (.latent or .safetensors)")
    add("--report", help="also store what it cost, as .json")


def _count_or_auto(text: str) -> int | None:
    """Read a number of frames, or `auto`."""
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"wanted a number of frames or auto, got {text!r}") from None


def _scales(text: str) -> tuple[float, ...]:
    """Read one guidance scale, or two with a comma between them."""
    try:
        scales = tuple(map(float, text.split(",")))
    except ValueError:
        scales = ()
    if len(scales) not in (1, 2):
        raise argparse.ArgumentTypeError(f"wanted a number, or two such as 4,3, got {text!r}")
    return scales


def _lora(text: str) -> Lora:
    """Read a LoRA's file, its strength and its net."""
    file, strength, net = text, "1", "all"
    if file.endswith((":high", ":low")):
        file, _, net = file.rpartition(":")
    before, _, last = file.rpartition(":")
    if before and _is_number(last):
        file, strength = before, last
    try:
        return checked(Lora, file=file, strength=float(strength), net=net)
    except JobRefused as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
