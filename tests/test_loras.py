"""LoRAs: what they add is the definition's, in every spelling, and is taken out to the last bit."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness import hostile_weights, wan_files, wan_loras
from harness.builders import text_to_video_folder
from harness.jobs import job
from harness.tiny_files import Tiny, tiny_files
from parallel.families import folder, wan_lora
from parallel.families.wan_shape import WanShape
from parallel.job.errors import JobRefused
from parallel.job.files import Lora
from parallel.job.job import checked
from parallel.models import table

NOISE = 1e-4  # of a video; as between numbers of ranks


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tiny:
    return tiny_files(tmp_path_factory.mktemp("loras"))


@pytest.fixture(scope="module")
def net(tiny) -> str:
    return tiny.write("net", wan_files.net_names(tiny.net))


@pytest.fixture(scope="module")
def fp8(tiny) -> str:
    low, scales = wan_files.scaled(tiny.net)
    return tiny.write("fp8", wan_files.spelled_old(wan_files.net_names(low), wan_files.net_names(scales)))


@pytest.fixture
def lora(tiny, tmp_path) -> str:
    return wan_loras.write(wan_loras.Parts(tiny.net), "kohya", tmp_path / "lora.safetensors")


def adapted(model, *loras: Lora) -> list[str]:
    said: list[str] = []
    model.adapt(loras, device=torch.device("cpu"), notify=said.append)
    return said


@pytest.mark.parametrize("sizes", [{}, {"condition": 20, "image_dim": 80, "added_kv_proj_dim": 256}])
def test_a_lora_may_change_every_layer_of_a_net_and_the_host_knows_their_sizes(sizes):
    net = wan_files.net(**sizes)
    held = {name: tuple(weight.shape) for name, weight in net.state_dict().items()}
    known = wan_lora.targets(
        checked(WanShape, **{name: net.config[name] for name in WanShape.model_fields if net.config[name] is not None})
    )
    assert {target.weight: target.shape for target in known.values()}.items() <= held.items()
    assert {name for target in known.values() for name in (target.weight, target.bias) if name} == held.keys()


@pytest.mark.parametrize("spelling", wan_loras.SPELLINGS)
def test_a_lora_adds_what_its_definition_says_and_leaves_no_trace(tiny, net, tmp_path, spelling):
    parts = wan_loras.Parts(tiny.net)
    file = wan_loras.write(parts, spelling, tmp_path / "lora.safetensors")
    model = table.load(folder.inspect(net, files=tiny.files), torch.float32)
    before = {name: weight.clone() for name, weight in model.transformer.state_dict().items()}
    scale = wan_loras.SPELLINGS[spelling][1]
    for strength in (1.0, -0.5, 0.0):
        assert adapted(model, Lora(file=file, strength=strength)) == []
        expected = parts.merged(tiny.net, strength, scale=scale)
        for name, weight in model.transformer.state_dict().items():
            assert torch.allclose(weight, expected[name], atol=1e-6, rtol=1e-6), name
            assert strength or torch.equal(weight, before[name])
    adapted(model)
    assert all(torch.equal(weight, before[name]) for name, weight in model.transformer.state_dict().items())


def test_two_loras_add_up_and_each_goes_to_its_net(tiny, tmp_path):
    low = wan_files.net(seed=1)
    files = tiny.files.model_copy(update={"model_low": tiny.write("low", wan_files.net_names(low.state_dict()))})
    model = table.load(folder.inspect(tiny.write("high", wan_files.net_names(tiny.net)), files=files), torch.float32)
    one, two = (wan_loras.Parts(tiny.net, seed) for seed in (0, 1))
    first, second = (
        wan_loras.write(parts, "PEFT", tmp_path / f"{number}.safetensors") for number, parts in enumerate((one, two))
    )
    adapted(model, Lora(file=first, strength=0.5), Lora(file=second, net="high"))
    high = two.merged(one.merged(tiny.net, 0.5, scale=1.0), 1.0, scale=1.0)
    for held, expected in ((model.transformer, high), (model.transformer_2, one.merged(low.state_dict(), 0.5, scale=1.0))):
        assert all(torch.allclose(weight, expected[name], atol=1e-5) for name, weight in held.state_dict().items())


def test_the_video_is_that_of_weights_merged_by_hand(tiny, net, lora, pools):
    merged = wan_loras.Parts(tiny.net).merged(tiny.net, 0.7, scale=wan_loras.ALPHA / wan_loras.RANK)
    twin = tiny.twin("merged", transformer=merged)
    with_lora = job(net, files=tiny.files, loras=(Lora(file=lora, strength=0.7),), decode=False, frames=13)
    ours, two_ranks = (pools(size).run(with_lora).latents for size in (1, 2))
    stock = pools(1).run(job(twin, decode=False, frames=13)).latents
    assert (ours - stock).abs().max() < NOISE
    assert (ours - two_ranks).abs().max() < NOISE


def test_beside_quantized_weights_it_is_that_of_what_they_stand_for_merged_by_hand(tiny, fp8, lora, pools):
    numbers = wan_files.read_scaled(*wan_files.scaled(tiny.net))
    twin = tiny.twin(
        "merged-fp8", transformer=wan_loras.Parts(tiny.net).merged(numbers, 0.7, scale=wan_loras.ALPHA / wan_loras.RANK)
    )
    ours = pools(1).run(job(fp8, files=tiny.files, loras=(Lora(file=lora, strength=0.7),), decode=False)).latents
    stock, without = (
        pools(1).run(each).latents for each in (job(twin, decode=False), job(fp8, files=tiny.files, decode=False))
    )
    assert (ours - stock).abs().max() < NOISE
    assert (without - stock).abs().max() > 100 * NOISE


@pytest.mark.parametrize("form", ["net", "fp8"])
def test_blocks_that_wait_in_host_memory_make_the_same_video(tiny, lora, pools, request, form):
    wish = job(request.getfixturevalue(form), files=tiny.files, loras=(Lora(file=lora),), decode=False)
    expected, got = (pools(2).run(each).latents for each in (wish, wish.model_copy(update={"offload": "blocks"})))
    assert (got - expected).abs().max() < NOISE


def test_another_strength_loads_no_model_and_none_is_as_before(tiny, lora, tmp_path, pools):
    """The net's file is gone after the first job: a rank could not load it again."""
    file = Path(tiny.write("gone", wan_files.net_names(tiny.net)))
    model = folder.inspect(str(file), files=tiny.files)
    strengths = (None, 1.0, 0.3, 0.0, None)
    latents = []
    for strength in strengths:
        loras = () if strength is None else (Lora(file=lora, strength=strength),)
        latents.append(pools(1).run(job(file, files=tiny.files, loras=loras, decode=False), model=model).latents)
        file.unlink(missing_ok=True)
    assert torch.equal(latents[0], latents[3]) and torch.equal(latents[0], latents[4])
    assert (latents[1] - latents[2]).abs().max() > NOISE and (latents[0] - latents[2]).abs().max() > NOISE


def test_keys_that_fit_nothing_are_counted_and_named(tiny, net, tmp_path, pools):
    text = {f"lora_te_{name}.lora_up.weight": torch.zeros(4, 4) for name in ("a", "b", "c", "d")}
    file = wan_loras.write(wan_loras.Parts(tiny.net), "kohya", tmp_path / "more.safetensors", **text)
    said: list[str] = []
    pools(1).run(
        job(net, files=tiny.files, loras=(Lora(file=file),), decode=False, num_inference_steps=1), on_notice=said.append
    )
    names = ", ".join(sorted(text)[:3])
    assert f"LoRA more.safetensors: 4 keys fit nothing in this model and are left out, such as {names}" in said
    assert (
        folder.inspect(net, files=tiny.files)
        .remarks(job(net, files=tiny.files, loras=(Lora(file=file),)))[0]
        .startswith("LoRA: ")
    )


def test_a_layer_of_another_size_is_left_out_if_others_fit(tiny, net, tmp_path, pools):
    """As the first layer's is in a LoRA for nets from images, which people put into those from text."""
    more = {"patch_embedding.diff": torch.zeros(256, 36, 1, 2, 2)}
    parts = wan_loras.Parts(tiny.net)
    held = {name: each for name, each in wan_loras.peft(parts).items() if "patch_embedding" not in name}
    file = str(wan_files.save({**held, **more}, tmp_path / "images.safetensors"))
    said = folder.inspect(net, files=tiny.files).lora_remarks((Lora(file=file),))
    assert said[1].endswith("1 keys fit nothing in this model and are left out, such as patch_embedding (of another size)")
    model = table.load(folder.inspect(net, files=tiny.files), torch.float32)
    adapted(model, Lora(file=file))
    assert torch.equal(model.transformer.patch_embedding.weight, tiny.net["patch_embedding.weight"])
    assert not torch.equal(model.transformer.proj_out.weight, tiny.net["proj_out.weight"])


WRONG = {
    "LoHa": ({"a.hada_w1_a": torch.zeros(1)}, "is a LoHa, which this version does not know"),
    "LoKr": ({"a.lokr_w1": torch.zeros(1)}, "is a LoKr"),
    "DoRA": ({"a.dora_scale": torch.zeros(1)}, "is a DoRA"),
    "another family": ({"lora_unet_down_blocks_0.lora_up.weight": torch.zeros(4, 4)}, "has 1 keys, and none fits this model"),
    "another size": (
        {"blocks.0.attn1.to_q.lora_A.weight": torch.zeros(4, 5120), "blocks.0.attn1.to_q.lora_B.weight": torch.zeros(5120, 4)},
        "changes a blocks.0.attn1.to_q of [5120, 5120], this model's is [256, 256]",
    ),
    "half": ({"blocks.0.attn1.to_q.lora_A.weight": torch.zeros(4, 256)}, "has half of what changes blocks.0.attn1.to_q"),
    "ranks": (
        {"blocks.0.attn1.to_q.lora_A.weight": torch.zeros(4, 256), "blocks.0.attn1.to_q.lora_B.weight": torch.zeros(256, 5)},
        "do not fit each other",
    ),
    "no rank": (
        {"blocks.0.attn1.to_q.lora_A.weight": torch.zeros(0, 256), "blocks.0.attn1.to_q.lora_B.weight": torch.zeros(256, 0)},
        "do not fit each other",
    ),
    "alpha alone": ({"blocks.0.attn1.to_q.alpha": torch.zeros(1)}, "has an alpha, and nothing else"),
    "alphas": ({"blocks.0.attn1.to_q.alpha": torch.zeros(2)}, "wanted one number, got [2]"),
    "fp8": ({"blocks.0.attn1.to_q.lora_A.weight": torch.zeros(4, 256, dtype=torch.float8_e4m3fn)}, "holds F8_E4M3"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_lora_of_this_model_is_refused_at_the_door(tiny, net, tmp_path, what):
    weights, said = WRONG[what]
    file = wan_files.save(weights, tmp_path / "wrong.safetensors")
    with pytest.raises(JobRefused) as refused:
        folder.check(job(net, files=tiny.files, loras=(Lora(file=str(file)),)), 1)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_lora_for_a_net_that_is_not_there(tiny, net, lora):
    with pytest.raises(JobRefused, match="this model has one net: say all"):
        folder.check(job(net, files=tiny.files, loras=(Lora(file=lora, net="low"),)), 1)


UNET = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"
CONV = "mid_block.resnets.0.conv1"


@pytest.mark.parametrize("spelling", ["kohya", "processor"])
def test_a_unet_takes_loras_too(tmp_path, pools, spelling):
    model = text_to_video_folder(tmp_path / "model")
    weights = load_file(model / "unet" / "diffusion_pytorch_model.safetensors")
    generator = torch.Generator().manual_seed(0)
    names, held, merged = (
        {"kohya": (".lora_down.weight", ".lora_up.weight"), "processor": ("_lora.down.weight", "_lora.up.weight")},
        {},
        dict(weights),
    )
    for layer in (UNET, CONV):
        wide, narrow = weights[f"{layer}.weight"], [1] * (weights[f"{layer}.weight"].ndim - 2)
        down, up = (
            0.3 * torch.randn(shape, generator=generator) for shape in ((4, *wide.shape[1:]), (wide.shape[0], 4, *narrow))
        )
        stem = f"lora_unet_{layer.replace('.', '_')}" if spelling == "kohya" else f"unet.{layer}"
        stem = stem.replace(".to_out.0", ".processor.to_out") if spelling == "processor" else stem
        held |= dict(zip((stem + ending for ending in names[spelling]), (down, up)))
        merged[f"{layer}.weight"] = wide + 0.5 * (up.flatten(1) @ down.flatten(1)).view(wide.shape)
    lora = Lora(file=str(wan_files.save(held, tmp_path / "lora.safetensors")), strength=0.5)
    twin = text_to_video_folder(tmp_path / "twin")
    wan_files.save(merged, twin / "unet" / "diffusion_pytorch_model.safetensors")
    ours, stock, without = (pools(1).run(wish).latents for wish in (job(model, loras=(lora,)), job(twin), job(model)))
    assert (ours - stock).abs().max() < NOISE < 0.01 < (ours - without).abs().max()
    assert folder.inspect(str(model)).remarks(job(model, loras=(lora,))) == ["LoRA: lora.safetensors at 0.5, 2 layers"]
    with pytest.raises(JobRefused, match="and none fits this model"):
        wrong = wan_files.save({"blocks.0.attn1.to_q.lora_A.weight": torch.zeros(4, 4)}, tmp_path / "wrong.safetensors")
        folder.check(job(model, loras=(Lora(file=str(wrong)),)), 1)


def test_hostile_files_are_no_loras(tiny, net, tmp_path):
    weights = wan_files.net_names(tiny.net)
    (tmp_path / "bad").mkdir()
    for what, file in hostile_weights.files(weights, tmp_path / "bad"):
        with pytest.raises(JobRefused) as refused:
            folder.check(job(net, files=tiny.files, loras=(Lora(file=str(file)),)), 1)
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 500, what
