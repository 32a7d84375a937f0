"""What ComfyUI's own code makes of prompts: `python comfyui_prompts.py COMFYUI_DIR --cpu`, a job as JSON on standard input.

Prints, as JSON, the parts that it reads from each text with their weights, and the embeddings of each prompt by the text
encoder of a model folder.
"""

import importlib
import json
import sys
from pathlib import Path

import torch
from comfyui_launch import Finder
from safetensors.torch import load_file

if __name__ == "__main__":
    sys.path[0] = sys.argv.pop(1)
    sys.meta_path.append(Finder())
    importlib.import_module("comfy.options").enable_args_parsing()
    clip = importlib.import_module("comfy.sd1_clip")
    job = json.load(sys.stdin)
    folder = Path(job["folder"])
    config = json.loads((folder / "text_encoder" / "config.json").read_text())
    length = config["max_position_embeddings"]
    special = {"start": config["bos_token_id"], "end": config["eos_token_id"], "pad": config["pad_token_id"]}
    encoder = clip.SDClipModel(
        max_length=length, textmodel_json_config=config, special_tokens=special, return_projected_pooled=False
    )
    prefix = "text_model."
    weights = load_file(folder / "text_encoder" / "model.safetensors")
    weights = {prefix + name.removeprefix(prefix): value for name, value in weights.items()}
    words = prefix + "embeddings.token_embedding.weight"
    rows = encoder.transformer.get_input_embeddings().num_embeddings  # ComfyUI knows one vocabulary
    weights[words] = torch.nn.functional.pad(weights[words], (0, 0, 0, rows - len(weights[words])))
    missing, unexpected = encoder.load_sd(weights)
    assert not unexpected and all("text_projection" in name for name in missing), (missing, unexpected)
    tokenizer = clip.SDTokenizer(tokenizer_path=str(folder / "tokenizer"), max_length=length)

    parts, embeddings = [], []
    for text in job["texts"]:
        read = clip.token_weights(clip.escape_important(text), 1.0)
        parts.append([(clip.unescape_important(part), weight) for part, weight in read])
    for prompt in job["prompts"]:
        encoded, _ = encoder.encode_token_weights(tokenizer.tokenize_with_weights(prompt))
        embeddings.append(encoded[0].tolist())
    json.dump({"parts": parts, "embeddings": embeddings}, sys.stdout)
