"""Import the pack as ComfyUI does, under its path for a name: `python comfyui_import.py COMFYUI_DIR --cpu`.

Prints how many nodes there are, which of three heavy libraries came with them, and, on standard error, the seconds.
"""

import asyncio
import importlib.util
import sys
import time
from pathlib import Path

from comfyui_launch import Finder

HEAVY = {"diffusers", "transformers", "av"}

if __name__ == "__main__":
    root = Path(__file__).resolve().parents[1]
    sys.path[0] = sys.argv.pop(1)
    sys.meta_path.append(Finder())
    importlib.import_module("comfy.options").enable_args_parsing()
    for name in ("comfy.model_management", "comfy.model_patcher", "comfy.utils", "comfy_api.latest", "folder_paths", "server"):
        importlib.import_module(name)
    before, began = set(sys.modules), time.perf_counter()
    spec = importlib.util.spec_from_file_location(str(root).replace(".", "_x_"), root / "__init__.py")
    pack = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = pack
    spec.loader.exec_module(pack)
    nodes = asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list())
    print(len(nodes), sorted({name.split(".")[0] for name in set(sys.modules) - before} & HEAVY))
    print(f"{time.perf_counter() - began:.2f} s", file=sys.stderr)
