"""Read nets with ComfyUI's own loader, and write the numbers that it has in their place: `comfyui_reads.py COMFYUI FILE...`.

In a process of its own: ComfyUI's modules take over the command line. Writes FILE with the suffix `.read`, under the file's names.
"""

import sys
from pathlib import Path

COMFYUI, *FILES = sys.argv[1:]
sys.argv = [sys.argv[0], "--cpu"]
sys.path[:0] = [COMFYUI, str(Path(__file__).resolve().parents[1])]

from harness.comfyui_launch import Finder  # noqa: E402

sys.meta_path.append(Finder())

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.sd  # noqa: E402
from comfy.quant_ops import QuantizedTensor  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

for file in map(Path, FILES):
    net = comfy.sd.load_diffusion_model(str(file)).model.diffusion_model
    read = {name: parameter.data for name, parameter in net.named_parameters()}
    numbers = {name: data.dequantize() if isinstance(data, QuantizedTensor) else data for name, data in read.items()}
    save_file({name: weight.contiguous() for name, weight in numbers.items()}, file.with_suffix(".read"))
