"""Blocks of a net in host memory, one ahead of their turn: the same video, and few of them on the device."""

import copy
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from harness.jobs import job as unet_job
from harness.live import bytes_at_once
from parallel.families import folder
from parallel.families.lora_memory import LoraBytes
from parallel.layers.offload import WaitingBlocks, block_by_block, borrowed, tensors_of
from parallel.maths.slices import BLOCKS_AT_ONCE
from parallel.models import table
from parallel.plan import fitting, plan
from parallel.sampler import load
from tests.test_wan import narrow

CPU = torch.device("cpu")


class Stack(nn.Module):
    """Blocks in a row, a weight before them, and what was seen of each block's weights while it was called."""

    def __init__(self, blocks: int, width: int = 8):
        super().__init__()
        self.first = nn.Linear(width, width)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width)) for _ in range(blocks))
        self.eval().requires_grad_(False)
        self.seen: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x).tanh()
            self.seen.append(block[0].weight.data_ptr())
        return x


@pytest.mark.parametrize("count", [1, 2, 7])
def test_blocks_do_the_same_from_a_few_places_on_the_device(count):
    net, x = Stack(count), torch.randn(3, 8)
    expected, own = net(x), [tensor.data_ptr() for tensor in tensors_of(net)]
    net.seen.clear()
    inside = []
    for block in net.blocks:
        block.register_forward_pre_hook(lambda module, _: inside.append(module[0].weight.data_ptr()))
    with block_by_block(net, net.blocks, CPU):
        for block in net.blocks:  # after those that bring the weights
            block.register_forward_pre_hook(lambda module, _: inside.append(module[0].weight.data_ptr()))
        assert torch.equal(net(x), expected) and torch.equal(net(x), expected)
    places = set(inside) - set(own)
    assert len(places) == min(count, BLOCKS_AT_ONCE) and set(net.seen) <= set(own), "back in host memory after each call"
    assert [tensor.data_ptr() for tensor in tensors_of(net)] == own


def test_the_next_block_comes_while_one_is_at_work():
    net = Stack(5)
    waiting = WaitingBlocks(net.blocks, CPU)
    waiting.enter(0)
    assert {slot.block for slot in waiting.slots} == {0, 1, None}
    waiting.enter(1)  # another branch of guidance, one block ahead
    assert {slot.block for slot in waiting.slots} == {0, 1, 2}
    waiting.enter(2)
    assert {slot.block for slot in waiting.slots} == {0, 1, 2}, "no room for a fourth while the other is in block 0"
    waiting.leave(0)
    waiting.leave(1)
    waiting.enter(1)
    waiting.leave(2)
    waiting.enter(3)
    assert {slot.block for slot in waiting.slots} == {1, 2, 3}, "the one behind needs block 2 again"
    waiting.close()


def test_a_fault_inside_a_block_leaves_all_weights_in_host_memory():
    net = Stack(4)
    own = [tensor.data_ptr() for tensor in tensors_of(net)]
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), block_by_block(net, net.blocks, CPU):
        net.blocks[2](torch.randn(3, 9))
    assert [tensor.data_ptr() for tensor in tensors_of(net)] == own
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in net.blocks)


@pytest.mark.gpu
def test_on_a_gpu_the_same_and_back_again():
    net, x, device = Stack(7, width=256), torch.randn(3, 256), torch.device("cuda")
    own, expected = [tensor.data_ptr() for tensor in tensors_of(net)], copy.deepcopy(net).to(device)(x.to(device))
    with block_by_block(net, net.blocks, device):
        for _ in range(3):
            assert torch.equal(net(x.to(device)), expected)
        assert net.first.weight.device.type == "cuda" and net.blocks[3][0].weight.device.type == "cpu"
    with borrowed(tensors_of(net), device):
        assert torch.equal(net(x.to(device)), expected)
    assert [tensor.data_ptr() for tensor in tensors_of(net)] == own


@pytest.mark.parametrize("guidance, ranks", [(5.0, 1), (5.0, 2), (1.0, 2)])
def test_a_wan_makes_the_same_video(wan, pools, guidance, ranks):
    job = narrow(wan, guidance_scale=guidance, num_inference_steps=4, decode=True, frames=42)
    expected, got = (pools(ranks).run(each) for each in (job, job.model_copy(update={"offload": "blocks"})))
    assert torch.equal(got.latents, expected.latents) and torch.equal(got.frames, expected.frames)


@pytest.mark.parametrize("reuse_every", [1, 2])
def test_a_unet_makes_the_same_video(tiny, pools, reuse_every):
    job = unet_job(tiny, num_inference_steps=4)
    job = job.model_copy(update={"tuning": job.tuning.model_copy(update={"reuse_every": reuse_every})})
    expected, got = (pools(2).run(each) for each in (job, job.model_copy(update={"offload": "blocks"})))
    assert torch.equal(got.latents, expected.latents) and torch.equal(got.frames, expected.frames)


def anonymous() -> int:
    """Return this process's resident bytes that no file is behind, and that it so shares with nobody."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's account of a process's memory")
def test_ranks_of_a_machine_share_the_weights_that_wait(tmp_path):
    """They stay files that are mapped, at work too; only what is in the slots is a rank's own."""
    file, large = tmp_path / "large.safetensors", 16 << 20
    save_file({str(number): torch.randn(large // 4) for number in range(8)}, file)
    with safe_open(file, framework="pt") as opened:
        blocks = [Loaded(opened.get_tensor(str(number))) for number in range(8)]
    net, before = nn.Sequential(*blocks), anonymous()
    with block_by_block(net, blocks, CPU), torch.inference_mode():
        net(torch.ones(1))
        assert anonymous() - before < (BLOCKS_AT_ONCE + 1) * large, "8 of them are at work"


class Loaded(nn.Module):
    """A block of one weight."""

    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight.mean()


@pytest.mark.parametrize("family", ["UNet3D", "Wan"])
def test_the_bytes_of_a_net_that_are_on_the_device_are_those_of_its_slots_and_what_is_around(tiny, wan, family):
    work = unet_job(tiny) if family == "UNet3D" else narrow(wan)
    host = folder.inspect(work.model)
    model, (part, *_) = table.load(host, torch.float32), host.nets
    at_once = host.bytes_at_once(part, work, host.lora_bytes(part, work))
    assert at_once == bytes_at_once(model, model.nets[0])
    assert host.bytes_at_once(host.vae, work, LoraBytes()) == host.weight_bytes(host.vae, work, LoraBytes())


def test_a_plan_says_what_offloading_saves_and_what_fits(wan):
    peaks = plan(narrow(wan), 2).peaks
    assert list(peaks) == ["none", "parts", "blocks"] and peaks["none"] > peaks["parts"] >= peaks["blocks"]
    assert [fitting(peaks, free) for free in (peaks["none"] * 2, int(peaks["parts"] * 1.2), 1)] == ["none", "parts", None]


def test_a_rank_chooses_what_fits_its_device(wan, monkeypatch):
    job = narrow(wan)
    model, peaks = table.load(folder.inspect(str(wan)), torch.float32), plan(job, 1).peaks
    for free, expected in ((None, "none"), (peaks["none"] * 2, "none"), (int(peaks["parts"] * 1.2), "parts"), (1, "blocks")):
        monkeypatch.setattr(load, "free_bytes", lambda _, free=free: free)
        assert load.choose_offload(model, job, range(12), torch.device("meta")) == expected
    by_hand = job.model_copy(update={"offload": "parts"})
    assert load.choose_offload(model, by_hand, range(12), torch.device("meta")) == "parts", "what was set by hand stands"
