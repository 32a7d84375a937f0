"""Hostile model folders of Wan's form: each must be refused in words, before anything of it is made."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from harness.hostile import Try, copied, links, pickled, says

NAN, INFINITY = float("nan"), float("inf")


def model_folders(model: Path, work: Path) -> Iterator[Try]:
    """Yield folders, made of one with two nets, that would run code, read elsewhere, or ask for absurd sizes and schedules."""
    changed = partial(copied, model, work)
    for part in ("transformer", "transformer_2", "vae", "text_encoder"):
        weights = next((model / part).glob("*.safetensors")).name
        yield changed(f"{part} pickled", pickled(part, ".bin"))
        yield changed(f"{part} links out", links(f"{part}/{weights}", "/etc/hostname"))
        yield changed(f"{part} runs code", says(f"{part}/config.json", auto_map={"AutoModel": "evil.Model"}))
        yield changed(f"{part} is quantized", says(f"{part}/config.json", quantization_config={"quant_method": "evil"}))
        yield changed(f"{part} cut", lambda copy, file=f"{part}/{weights}": (copy / file).write_bytes(b"\0" * 99))
    absurd = {
        "transformer": {
            "num_layers": [0, -1, 129, 10**12, INFINITY, "x"],
            "attention_head_dim": [0, 13, 1 << 20, NAN],
            "rope_max_seq_len": [0, 1 << 20],
            "num_attention_heads": [0, -2, 10**9],
            "patch_size": [[1, 0, 0], [2, 2, 2], [1, 2, 4], 2, [1, 2], None],
            "ffn_dim": [0, 10**12],
            "in_channels": [36, 0],
            "added_kv_proj_dim": [5120],
        },
        "vae": {
            "dim_mult": [[10**9] * 4, [1] * 1000, [], [1, 2]],
            "z_dim": [0, 10**12, 16],
            "latents_std": [[0.0, 1.0, 1.0, 1.0], [NAN] * 4, [INFINITY] * 4, [-1.0] * 4, [1.0], "x"],
            "latents_mean": [[NAN] * 4, [0.0] * 5],
            "scale_factor_spatial": [0, 1, 16, 10**12],
            "scale_factor_temporal": [0, 8],
            "temperal_downsample": [[True, True, True], [False] * 3],
        },
        "text_encoder": {"num_layers": [10**6], "d_model": [10**9, 17, -1], "vocab_size": [10**12]},
    }
    for part, sizes in absurd.items():
        for name, tries in sizes.items():
            for number, value in enumerate(tries):
                if value is not None:
                    yield changed(f"{part} {name} {number}", says(f"{part}/config.json", **{name: value}))
    yield changed("nets that differ", says("transformer_2/config.json", num_layers=3))
    yield changed("a second net of another class", says("transformer_2/config.json", _class_name="evil.Net"))
    scheduler = {
        "flow_shift": [NAN, INFINITY, 0.0, -3.0, 10**9, "x"],
        "num_train_timesteps": [0, 500, 10**9],
        "stochastic_sampling": [True],
        "use_dynamic_shifting": [True],
        "solver_order": [0, 10**9],
        "_class_name": ["evil.Scheduler", "LCMScheduler"],
    }
    for name, tries in scheduler.items():
        for number, value in enumerate(tries):
            yield changed(f"scheduler {name} {number}", says("scheduler/scheduler_config.json", **{name: value}))
    for number, value in enumerate((NAN, 2.0, -1.0, "x", [0.9])):
        yield changed(f"boundary {number}", says("model_index.json", boundary_ratio=value))
    yield changed("expands what", says("model_index.json", expand_timesteps=[1]))
    for name in ("model_index.json", "training.json"):
        for number, text in enumerate(("[]", "null", "{" * 10**5, "x", " " * 2**21)):
            yield changed(f"{name} {number}", lambda copy, name=name, text=text: (copy / name).write_text(text))
        yield changed(f"{name} links out", links(name, "/etc/passwd"))
    for number, value in enumerate((0, -1, 10**9, NAN, "x", [33], {"a": 1})):
        text = f'{{"trained_frames": {value!r}}}'.replace("'", '"').replace("nan", "NaN")
        yield changed(f"trained {number}", lambda copy, text=text: (copy / "training.json").write_text(text))
    yield changed("tokenizer runs code", says("tokenizer/tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]}))
    yield changed("no tokenizer", lambda copy: (copy / "tokenizer/tokenizer.json").unlink())
