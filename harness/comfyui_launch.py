"""Start ComfyUI's main.py in this process with stand-ins for packages that its start imports and these tests never use.

`python comfyui_launch.py MAIN.PY [ARGUMENTS]`. The stand-ins live in this process only: ranks see the real environment.
It says which heavy libraries the pack brings in that ComfyUI itself had not imported by then.
"""

import importlib.abc
import importlib.machinery
import runpy
import sys
import types
from collections.abc import Iterator
from pathlib import Path

ABSENT = ("torchvision", "torchaudio", "kornia", "spandrel")
HEAVY = ("diffusers", "transformers", "av")
PACK = "ComfyUI-VideoInfinity"


class StandIn(types.ModuleType):
    """A module in which every name is an empty class."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds stand-ins after everything real was looked for."""

    def find_spec(self, name, path=None, target=None):
        is_absent = name.split(".")[0] in ABSENT
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if is_absent else None

    def create_module(self, spec):
        return StandIn(spec.name)

    def exec_module(self, module):
        pass


class Witness(importlib.abc.MetaPathFinder):
    """Finds nothing; says when code of the pack imports a heavy library."""

    def find_spec(self, name, path=None, target=None):
        if name in HEAVY and any(PACK in Path(file).parts for file in files_of_callers()):
            print(f"{PACK} imports {name}", flush=True)


def files_of_callers() -> Iterator[str]:
    """Return the files of the code that runs, from the innermost to the outermost."""
    frame = sys._getframe()
    while frame is not None:
        yield frame.f_code.co_filename
        frame = frame.f_back


if __name__ == "__main__":
    sys.meta_path.insert(0, Witness())
    sys.meta_path.append(Finder())
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
