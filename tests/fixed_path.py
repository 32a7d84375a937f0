"""An interpreter whose path is fixed, as in ComfyUI's Windows portable: a `._pth` file beside it says all that is on its path.

CPython 3.11 and newer reads such a file on Linux, too (Modules/getpath.py): next to the real executable, and so a copy of it has
one here. As on Windows that means isolated mode: no PYTHONPATH, no folder of a script, none of `-m` and `-c`.
"""

import shutil
import sys
import sysconfig
from pathlib import Path


def can_be_made() -> bool:
    """Say whether this interpreter reads such a file on this system."""
    return sys.version_info >= (3, 11)


def make(folder: Path, first: Path) -> Path:
    """Return a copy of this interpreter with this one's packages and, as ComfyUI's portable has it, one folder before all."""
    paths = sysconfig.get_paths()
    packages = dict.fromkeys((paths["purelib"], paths["platlib"]))
    lines = [first, paths["stdlib"], sysconfig.get_config_var("DESTSHARED"), *packages, "import site"]
    folder.mkdir()
    python = Path(shutil.copy(Path(sys.executable).resolve(), folder / "python3"))
    python.with_suffix("._pth").write_text("".join(f"{line}\n" for line in lines))
    return python
