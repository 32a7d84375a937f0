"""A model, a folder or files -> what its family makes of it: read from JSON and headers of weights alone, once, before any rank works."""

from pathlib import Path

from ..job.errors import JobRefused
from ..job.files import ModelFiles
from ..job.job import Job
from . import weight_files
from .parts import TRAINING, class_of, find
from .safety import check_files, check_links, read_config
from .single_file import Role
from .table import FAMILIES, IN_FILES, ModelFolder

NO_FILES = ModelFiles()
OF_ITSELF = ("model_index.json", TRAINING)  # files of a model's folder, which are of no part


def inspect(model: str, parts: str | None = None, files: ModelFiles = NO_FILES) -> ModelFolder:
    """Return what a model is, a folder or a net's file, with `parts` and `files` for what it lacks.

    Raises JobRefused if it can't be run, or is not safe.
    """
    if parts is not None and not Path(parts).is_dir():
        raise JobRefused(f"parts folder {parts} does not exist: give a folder in diffusers format")
    try:
        return _inspect_files(Path(model), files, parts) if Path(model).is_file() else _inspect(model, parts, files)
    except OSError as error:
        raise JobRefused(
            f"{error.filename or model} can not be read ({error.strerror}): is it a whole file, and yours to read?"
        ) from None


def roles_in(file: str) -> frozenset[Role]:
    """Return what of a model a file can be: nothing, if it can't be run or read."""
    try:
        return frozenset().union(*(family.roles_in(Path(file)) for family in IN_FILES))
    except (JobRefused, OSError):
        return frozenset()


def _inspect_files(model: Path, files: ModelFiles, parts: str | None) -> ModelFolder:
    for family in IN_FILES:
        found = family.read_files(model, files, parts)
        if found is not None:
            return found
    raise JobRefused(
        f"model {model} holds no net that this version knows: it runs single files of Wan 2.1, 2.2 A14B and 2.2 TI2V-5B"
    )


def _inspect(model: str, parts: str | None, files: ModelFiles) -> ModelFolder:
    root = Path(model)
    for name, file in files:
        if file is not None:
            raise JobRefused(f"{name} {file} goes with a net that is a file, too; model {model} is a folder: leave it out")
    if not root.is_dir():
        raise JobRefused(f"model folder {model} does not exist: give a folder in diffusers format")
    net = _net_of(root)
    check_files(net.parent, *(net.parent / name for name in OF_ITSELF))
    named = class_of(net, read_config(net / "config.json"))
    if named not in FAMILIES:
        raise JobRefused(f"model folder {model} holds a {named}: this version runs {', '.join(FAMILIES)}")
    family = FAMILIES[named]
    optional = [name for name in family.optional_parts if (root / name).is_dir()]
    places = {family.net: net, **find([*family.other_parts, *optional], root, parts)}
    for place in places.values():
        check_links(root if place.is_relative_to(root) else Path(str(parts)), place)
    for name in family.parts_with_weights:
        if name in places:
            weight_files.check(places[name])
    return family.read(places)


def _net_of(root: Path) -> Path:
    """Return where the net that denoises is: in the folder that a family has for it, or in the model's folder itself."""
    for family in FAMILIES.values():
        if (root / family.net).is_dir():
            return root / family.net
    return root


def check(job: Job, ranks: int, model: ModelFolder | None = None) -> ModelFolder:
    """Return the job's model, `model` if it was inspected already; raise JobRefused if it can't run the job on so many ranks."""
    if model is None:
        model = inspect(job.model, job.parts, job.files)
    most = model.geometry.latents(job.frames)
    if ranks > most:
        raise JobRefused(f"cannot cut {job.frames} frames into {ranks} clips: use at most {most} ranks")
    for name, size in (("height", job.height), ("width", job.width)):
        if size % model.size_step:
            near = max(1, round(size / model.size_step)) * model.size_step
            raise JobRefused(f"{name}: wanted a multiple of {model.size_step}, got {size}: use {near}")
    known = ", ".join(model.schedulers)
    if job.scheduler == "model" and model.scheduler_class not in model.schedulers.values():
        raise JobRefused(f"scheduler: the model's {model.scheduler_class} is not supported: use {known}")
    if job.scheduler != "model" and job.scheduler not in model.schedulers:
        raise JobRefused(f"scheduler: {job.scheduler} does not suit this model: use {known}")
    model.check(job)
    return model
