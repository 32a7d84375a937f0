"""Hostile model folders of Wan's form: each must be refused in words, before anything of it is made."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from harness.hostile import Change, Try, copied, links, pickled, says

NAN, INFINITY = float("nan"), float("inf")
Changed = tuple[str, Change]  # what is done to a folder, and how
ABSURD = {
    "transformer/config.json": {
        "num_layers": [0, -1, 129, 10**12, INFINITY, "x"],
        "attention_head_dim": [0, 13, 1 << 20, NAN],
        "rope_max_seq_len": [0, 1 << 20],
        "num_attention_heads": [0, -2, 10**9],
        "patch_size": [[1, 0, 0], [2, 2, 2], [1, 2, 4], 2, [1, 2]],
        "ffn_dim": [0, 10**12],
        "in_channels": [36, 0],
        "added_kv_proj_dim": [5120],
    },
    "transformer_2/config.json": {"num_layers": [3], "_class_name": ["evil.Net"]},
    "vae/config.json": {
        "dim_mult": [[10**9] * 4, [1] * 1000, [], [1, 2]],
        "z_dim": [0, 10**12, 16],
        "latents_std": [[0.0, 1.0, 1.0, 1.0], [NAN] * 4, [INFINITY] * 4, [-1.0] * 4, [1.0], "x"],
        "latents_mean": [[NAN] * 4, [0.0] * 5],
        "scale_factor_spatial": [0, 1, 16, 10**12],
        "scale_factor_temporal": [0, 8],
        "temperal_downsample": [[True, True, True], [False] * 3],
    },
    "text_encoder/config.json": {"num_layers": [10**6], "d_model": [10**9, 17, -1], "vocab_size": [10**12]},
    "scheduler/scheduler_config.json": {
        "flow_shift": [NAN, INFINITY, 0.0, -3.0, 10**9, "x"],
        "num_train_timesteps": [0, 500, 10**9],
        "stochastic_sampling": [True],
        "use_dynamic_shifting": [True],
        "use_karras_sigmas": [True],
        "use_exponential_sigmas": [True],
        "use_beta_sigmas": [True],
        "use_lu_lambdas": [True],
        "invert_sigmas": [True],
        "solver_order": [0, 10**9],
        "_class_name": ["evil.Scheduler", "LCMScheduler"],
    },
    "model_index.json": {"boundary_ratio": [NAN, 2.0, -1.0, "x", [0.9]], "expand_timesteps": [[1]]},
}


def model_folders(model: Path, work: Path) -> Iterator[Try]:
    """Yield folders, made of one with two nets, that would run code, read elsewhere, or ask for absurd sizes and schedules."""
    for changes in (_weights(model), _absurd(), _indices(), _tokenizers()):
        for name, change in changes:
            yield copied(model, work, name, change)


def _weights(model: Path) -> Iterator[Changed]:
    for part in ("transformer", "transformer_2", "vae", "text_encoder"):
        weights = next((model / part).glob("*.safetensors")).name
        yield f"{part} pickled", pickled(part, ".bin")
        yield f"{part} links out", links(f"{part}/{weights}", "/etc/hostname")
        yield f"{part} runs code", says(f"{part}/config.json", auto_map={"AutoModel": "evil.Model"})
        yield f"{part} is quantized", says(f"{part}/config.json", quantization_config={"quant_method": "evil"})
        yield f"{part} cut", partial(_write, file=f"{part}/{weights}", text="\0" * 99)


def _absurd() -> Iterator[Changed]:
    for file, values in ABSURD.items():
        for name, tries in values.items():
            for number, value in enumerate(tries):
                yield f"{Path(file).parent.name} {name} {number}", says(file, **{name: value})


def _indices() -> Iterator[Changed]:
    for name in ("model_index.json", "training.json"):
        for number, text in enumerate(("[]", "null", "{" * 10**5, "x", " " * 2**21)):
            yield f"{name} {number}", partial(_write, file=name, text=text)
        yield f"{name} links out", links(name, "/etc/passwd")
    for number, value in enumerate(("0", "-1", "1e9", "NaN", '"x"', "[33]", '{"a": 1}')):
        yield f"trained {number}", partial(_write, file="training.json", text=f'{{"trained_frames": {value}}}')


def _tokenizers() -> Iterator[Changed]:
    yield "tokenizer runs code", says("tokenizer/tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]})
    yield "no tokenizer", lambda copy: (copy / "tokenizer/tokenizer.json").unlink()


def _write(copy: Path, *, file: str, text: str) -> None:
    (copy / file).write_text(text)
