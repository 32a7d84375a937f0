"""What a model folder holds, read from its JSON alone: nothing is imported, unpickled or loaded."""

import re
from pathlib import Path

from pydantic import Field

from .errors import JobRefused
from .protocol import Frozen, Job, checked
from .safety import check_links, read_config, weight_count

FAMILIES = ("UNet3DConditionModel",)
PARTS = ("vae", "text_encoder", "tokenizer", "scheduler")
# ComfyUI's names for diffusers' classes. They act on each element alone, so that a slice of the video is stepped as the
# whole would be. Any other class might draw noise by batch or look across frames, and is refused by name.
SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "uni_pc": "UniPCMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_ancestral": "EulerAncestralDiscreteScheduler",
}
_WEIGHTS = re.compile(r"(?:diffusion_pytorch_)?model(?:\.(?P<variant>fp16))?(?:-\d+-of-\d+)?\.safetensors")
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


class UNetShape(Frozen):
    """The sizes of a `UNet3DConditionModel`, under diffusers' names and with its defaults."""

    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    attention_head_dim: int = 64
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock3D",) * 3 + ("DownBlock3D",)
    up_block_types: tuple[str, ...] = ("UpBlock3D",) + ("CrossAttnUpBlock3D",) * 3

    def frame_layers(self) -> dict[str, int]:
        """Return how many layers of each kind mix frames."""
        depth = self.layers_per_block
        blocks = [(kind, depth) for kind in self.down_block_types] + [(kind, depth + 1) for kind in self.up_block_types]
        convolutions = 2 + sum(layers for _, layers in blocks)  # the middle block has two, each of four convolutions
        transformers = 2 + sum(layers for kind, layers in blocks if kind.startswith("CrossAttn"))  # the first layer, the middle
        return {"norm": transformers, "attention": 2 * transformers, "convolution": 4 * convolutions}


class ModelFolder(Frozen):
    """Where each part of a model is, and the few numbers that a job is checked against."""

    family: str
    unet: Path
    vae: Path
    text_encoder: Path
    tokenizer: Path
    scheduler: Path
    scheduler_class: str
    solver_order: int = Field(ge=1, le=3)
    unet_shape: UNetShape
    vae_channels: int  # of its layers at full size
    latent_channels: int
    scale: int  # pixels of a frame for one latent pixel
    scaling_factor: float = Field(gt=0, allow_inf_nan=False)  # the VAE's raw latents times it are what the net sees
    own_size: tuple[int, int] | None  # height and width in pixels that its configuration names
    fps_cond: bool

    def history(self, scheduler: str) -> int:
        """Return how many tensors of the latents' size a scheduler, by the job's name for it, remembers between steps."""
        kind = SCHEDULERS.get(scheduler, self.scheduler_class)
        return self.solver_order * kind.endswith("MultistepScheduler") + kind.startswith("UniPC")


def inspect(model: str, parts: str | None = None) -> ModelFolder:
    """Return what a model folder holds, with `parts` for what it lacks; raise JobRefused if it can't be run, or is not safe."""
    root = Path(model)
    if not root.is_dir():
        raise JobRefused(f"model folder {model} does not exist: give a folder in diffusers format")
    unet = root / "unet" if (root / "unet").is_dir() else root
    config = read_config(unet / "config.json")
    family = config.get("_class_name")
    if family not in FAMILIES:
        raise JobRefused(f"model folder {model} holds a {family}: this version runs {', '.join(FAMILIES)}")
    places = {part: _find(part, root, parts) for part in PARTS}
    for place in (unet, *places.values()):
        check_links(root if place.is_relative_to(root) else Path(str(parts)), place)
    for place in (unet, places["vae"], places["text_encoder"]):
        _check_weights(place)
    vae, text_encoder = (read_config(places[part] / "config.json") for part in ("vae", "text_encoder"))
    scheduler = read_config(places["scheduler"] / "scheduler_config.json")
    read_config(places["tokenizer"] / "tokenizer_config.json")
    _check_fit(config, vae, text_encoder, places)
    widths = vae.get("block_out_channels", [128] * 4)
    scale = 2 ** (len(widths) - 1)
    return checked(
        ModelFolder,
        family=family,
        unet=unet,
        **places,
        scheduler_class=str(scheduler.get("_class_name")),
        solver_order=scheduler.get("solver_order", 2),
        unet_shape=_shape(config, unet),
        vae_channels=widths[0],
        latent_channels=int(config.get("in_channels", 4)),
        scale=scale,
        scaling_factor=vae.get("scaling_factor", 0.18215),
        own_size=_own_size(config.get("sample_size"), scale),
        fps_cond=bool(config.get("fps_cond", False)),
    )


def check(job: Job, ranks: int) -> ModelFolder:
    """Return the job's model folder, or raise JobRefused if this job can't be run on so many ranks."""
    if ranks > job.frames:
        raise JobRefused(f"cannot cut {job.frames} frames into {ranks} clips: use at most {job.frames} ranks")
    folder = inspect(job.model, job.parts)
    for name, size in (("height", job.height), ("width", job.width)):
        if size % folder.scale:
            near = max(1, round(size / folder.scale)) * folder.scale
            raise JobRefused(f"{name}: wanted a multiple of {folder.scale}, got {size}: use {near}")
    if job.scheduler == "model" and folder.scheduler_class not in SCHEDULERS.values():
        raise JobRefused(f"scheduler: the model's {folder.scheduler_class} is not supported: use {', '.join(SCHEDULERS)}")
    return folder


def _find(part: str, root: Path, parts: str | None) -> Path:
    places = [root / part] + ([Path(parts) / part] if parts else [])
    for place in places:
        if place.is_dir():
            return place
    raise JobRefused(f"model folder {root} has no {part}: give a second folder that has one as `parts`")


def _shape(config: dict, unet: Path) -> UNetShape:
    try:
        return checked(UNetShape, **{name: config[name] for name in UNetShape.model_fields if name in config})
    except JobRefused as error:
        raise JobRefused(f"{unet / 'config.json'}: {error}: get the folder again") from None


def _own_size(sample_size: object, scale: int) -> tuple[int, int] | None:
    """Return the height and width in pixels that a UNet's `sample_size` (one number for both, or two) stands for."""
    sides = sample_size if isinstance(sample_size, list) else [sample_size, sample_size]
    whole = [side * scale for side in sides if isinstance(side, int) and side > 0]
    return (whole[0], whole[1]) if len(whole) == len(sides) == 2 else None


def _check_fit(unet: dict, vae: dict, text_encoder: dict, places: dict[str, Path]) -> None:
    """Raise JobRefused unless the parts, which may come from two folders, work together."""
    if vae.get("_class_name") != "AutoencoderKL":
        raise JobRefused(f"{places['vae']} holds a {vae.get('_class_name')}: this version runs AutoencoderKL")
    if "CLIPTextModel" not in text_encoder.get("architectures", []):
        raise JobRefused(
            f"{places['text_encoder']} holds a {text_encoder.get('architectures')}: this version runs CLIPTextModel"
        )
    wanted, got = unet.get("in_channels", 4), vae.get("latent_channels", 4)
    if wanted != got:
        raise JobRefused(f"the UNet wants latents of {wanted} channels, {places['vae']} makes {got}: use another VAE")
    wanted, got = unet.get("cross_attention_dim", 1024), text_encoder.get("hidden_size", 512)
    if wanted != got:
        raise JobRefused(
            f"the UNet wants prompts of width {wanted}, {places['text_encoder']} makes {got}: use the text encoder of its family"
        )


def weight_files(part: Path) -> list[Path]:
    """Return the files of a part's weights, as diffusers and transformers name them."""
    named = {file: match["variant"] for file in part.glob("*.safetensors") if (match := _WEIGHTS.fullmatch(file.name))}
    plain = None in named.values()
    return sorted(file for file, kind in named.items() if kind is None or not plain)


def variant(part: Path) -> str | None:
    """Return "fp16" if a part has only such weights, else None: what `from_pretrained` wants to be told."""
    return "fp16" if ".fp16" in weight_files(part)[0].name else None


def check_complete(part: Path, missing: list[str], left_over: list[str]) -> None:
    """Raise JobRefused if a file of weights is not that of its configuration: libraries fill what is missing with noise."""
    for keys, what in ((missing, "lacks"), (left_over, "has, beside what its configuration says,")):
        if keys:
            raise JobRefused(f"{part} {what} {len(keys)} weights, such as {sorted(keys)[0]}: get the folder again")


def _check_weights(folder: Path) -> None:
    files = weight_files(folder)
    for file in files:
        weight_count(file)
    if files:
        return
    if any(file.suffix in PICKLES for file in folder.iterdir()):
        raise JobRefused(f"{folder} has only pickled weights, which can run code: convert them to safetensors")
    raise JobRefused(f"{folder} has no weights: wanted a .safetensors file")
