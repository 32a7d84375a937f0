"""Layers whose weights stay as their file has them: what they do, and what they keep."""

import pytest
import torch
from torch import nn

from parallel.layers.held import Branch, HeldLinear
from parallel.layers.tokens import OverTokens
from parallel.maths.dequantize import KINDS, from_blocks
from parallel.maths.slices import Slices


def held(dtype: torch.dtype = torch.float32) -> HeldLinear:
    generator = torch.Generator().manual_seed(0)
    layer = HeldLinear(
        torch.randn(6, 4, generator=generator).to(torch.float8_e4m3fn), "F8_E4M3", (6, 4), dtype, scale=torch.tensor(0.3)
    )
    layer.bias = nn.Parameter(torch.randn(6, generator=generator))
    return layer


def test_it_is_the_linear_layer_of_its_numbers_and_of_what_is_added():
    layer, x = held(), torch.randn(3, 4)
    plain = nn.functional.linear(x, layer.stored.float() * 0.3, layer.bias)
    assert torch.equal(layer(x), plain)
    up, down, whole = torch.randn(6, 2), torch.randn(2, 4), torch.randn(6, 4)
    layer.branches.extend([Branch(up, down), Branch(whole, None)])
    assert torch.allclose(layer(x), plain + x @ (up @ down + whole).T, atol=1e-5)


def test_a_scale_is_rounded_to_the_type_before_it_multiplies():
    layer = held(torch.bfloat16)
    assert torch.equal(layer.weight, layer.stored.to(torch.bfloat16) * torch.tensor(0.3, dtype=torch.bfloat16))


def test_its_weight_is_no_parameter_and_goes_where_a_module_goes():
    layer = held().to("meta")
    assert [name for name, _ in layer.named_parameters()] == ["bias"]
    assert layer.stored.device.type == layer.scale.device.type == "meta" and layer.stored.dtype == torch.float8_e4m3fn


def test_in_slices_it_becomes_numbers_once(monkeypatch):
    layer, x, made = held(), torch.randn(1, 8, 4), []
    narrow = nn.Sequential(layer, nn.Linear(6, 4))
    expected = narrow(x)
    numbers = HeldLinear.numbers
    monkeypatch.setattr(HeldLinear, "numbers", lambda self, dtype: (made.append(dtype), numbers(self, dtype))[1])
    got = OverTokens(narrow, Slices(1 << 20, pixels=2), width=6)(x)
    assert torch.allclose(got, expected) and made == [torch.float32] and layer.ready is None


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_reads_the_same_numbers_in_blocks(kind):
    per, size, _ = KINDS[kind]
    blocks = torch.randint(0, 256, (64, size), dtype=torch.uint8)
    blocks[:, (1, 3)] &= 0x3B  # scales that are finite
    if kind == "Q6_K":
        blocks[:, 209] &= 0x3B
    here, there = (from_blocks(each, kind, (64, per), torch.float32) for each in (blocks, blocks.cuda()))
    assert torch.equal(here, there.cpu())
