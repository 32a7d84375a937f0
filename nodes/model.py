"""Load Video Model: which model to run, a folder or files, as a description."""

from comfy_api.latest import io

from ..parallel.families import folder
from ..parallel.families.single_file import Role
from ..parallel.families.table import ModelFolder
from ..parallel.job.errors import JobRefused
from ..parallel.job.files import ModelFiles
from ..parallel.job.job import checked
from . import host, host_folders
from .sockets import CATEGORY, Model, ModelChoice
from .widgets import checks_widgets

SAME = "the same folder"
NO_FILE = "none"
# A widget for a file -> what of a model it is, and what is said of it.
FILES: dict[str, tuple[Role, str]] = {
    "model_low": ("model", "Of Wan 2.2 A14B: the file of the net for low noise; `model` is the one for high noise."),
    "vae": ("vae", "The VAE's file, if `model` is a file: of models/vae."),
    "text_encoder": (
        "text_encoder",
        "The text encoder's file, if `model` is a file: a UMT5 of models/text_encoders; none is needed where clip is connected.",
    ),
    "clip_vision": (
        "clip_vision",
        "Of Wan 2.1 from images, if `model` is a file: clip_vision_h of models/clip_vision; none is needed where clip_vision_output is connected.",
    ),
}


class LoadVideoModel(io.ComfyNode):
    """Choose a model. Nothing is loaded here: each rank loads it for itself."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        names, nets = list(host_folders.model_folders()), list(host_folders.weight_files("model"))
        return io.Schema(
            node_id="VideoInfinityLoadVideoModel",
            display_name="Load Video Model",
            category=CATEGORY,
            description="Chooses a video model: a diffusers folder of models/diffusers, Wan in ComfyUI's own files, or one of the small "
            "ones that ship with the pack.",
            search_aliases=[
                "video infinity model",
                "wan",
                "modelscope",
                "zeroscope",
                "videocrafter2",
                "diffusers",
                "gguf",
                "unet",
            ],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=[*names, *nets],
                    tooltip="A folder in models/diffusers, in diffusers format, with safetensors; or a Wan's net in one file of "
                    "models/diffusion_models: bf16, fp16, fp8, scaled fp8 or GGUF.",
                ),
                io.Combo.Input(
                    "parts",
                    options=[SAME, *names],
                    default=SAME,
                    optional=True,
                    tooltip="Where the text encoder, VAE and scheduler come from if the model's folder, or the files, lack them.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=["float32", "float16", "bfloat16"],
                    default="float32",
                    tooltip="float16 for GPUs, bfloat16 for Wan on them; float32 for CPU ranks.",
                ),
                io.Combo.Input(
                    "offload",
                    options=["auto", "none", "parts", "blocks"],
                    default="auto",
                    optional=True,
                    tooltip="none: all stays on the GPU. parts: text encoder, net and VAE wait in host memory while another works. "
                    "blocks: so do the net's blocks until it is nearly their turn. auto: the first of these that fits.",
                ),
                *(
                    io.Combo.Input(
                        name, options=[NO_FILE, *host_folders.weight_files(role)], default=NO_FILE, optional=True, tooltip=tip
                    )
                    for name, (role, tip) in FILES.items()
                ),
            ],
            outputs=[Model.Output("model", tooltip="Which model to run; for the sampler, decode and encode nodes.")],
        )

    @classmethod
    def validate_inputs(
        cls,
        model: str | None,
        parts: str | None = SAME,
        model_low: str | None = NO_FILE,
        vae: str | None = NO_FILE,
        text_encoder: str | None = NO_FILE,
        clip_vision: str | None = NO_FILE,
    ) -> bool | str:
        """Refuse what can't be run, before anything runs; None comes over a link, and is seen when the node runs."""
        files = {"model_low": model_low, "vae": vae, "text_encoder": text_encoder, "clip_vision": clip_vision}
        if model is None or parts is None or None in files.values():
            return True
        return host.refused(lambda: find(model, parts, files))

    @classmethod
    @checks_widgets
    def execute(cls, model: str, dtype: str, parts: str = SAME, offload: str = "auto", **files: str) -> io.NodeOutput:
        choice, inspected = find(model, parts, files, dtype=dtype, offload=offload)
        host.show_text("\n".join(inspected.missing))
        return io.NodeOutput(choice)


def find(model: str, parts: str = SAME, files: dict[str, str] | None = None, **how: str) -> tuple[ModelChoice, ModelFolder]:
    """Return the choice that some names stand for, and what is there; raise JobRefused if it can't be run."""
    found = host_folders.model_folders()
    known = found | host_folders.weight_files("model")
    if model not in known or (parts != SAME and parts not in found):
        raise JobRefused(f"model {model!r} with parts {parts!r} is not in ComfyUI's folders: choose one of {', '.join(known)}")
    first, second = known[model], None if parts == SAME else found[parts]
    chosen = checked(ModelFiles, **{name: _file(name, file) for name, file in (files or {}).items()})
    inspected = folder.inspect(first, second, chosen)
    return checked(ModelChoice, model=first, parts=second, files=chosen, **how), inspected


def _file(widget: str, name: str) -> str | None:
    """Return the path of a file that a widget names; raise JobRefused if it is none of those that are listed."""
    if name == NO_FILE:
        return None
    listed = host_folders.weight_files(FILES[widget][0])
    if name not in listed:
        raise JobRefused(
            f"{widget} {name!r} is not in ComfyUI's folders, or none that this version runs: choose one of {', '.join(listed) or NO_FILE}"
        )
    return listed[name]
