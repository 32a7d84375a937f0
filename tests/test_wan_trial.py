"""The installed diffusers has the Wan that the layers fit, and another is refused before a job begins."""

import re

import pytest
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.transformers import transformer_wan

from harness import wan_builders
from parallel.families import folder
from parallel.job.errors import JobRefused
from parallel.models import table, trial


class Renamed(transformer_wan.WanAttention):
    """As a later diffusers might have it: the same formula, a part by another name."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.query = self.to_q
        del self.to_q

    def forward(self, *arguments):
        if isinstance(self.processor, transformer_wan.WanAttnProcessor):
            self.to_q = self.query
        try:
            return super().forward(*arguments)
        finally:
            self._modules.pop("to_q", None)


class Reformed(transformer_wan.WanAttnProcessor):
    """The same parts, another formula."""

    def __call__(self, attn, hidden_states, *others):
        return super().__call__(attn, hidden_states, *others) - 0.5 * hidden_states


def test_the_layers_and_the_vae_fit_the_installed_diffusers():
    state = torch.get_rng_state()
    assert trial.wan_difference() < 1e-4
    assert torch.equal(torch.get_rng_state(), state), "a trial leaves no trace"


@pytest.mark.parametrize(
    "name, changed, said",
    [
        ("WanAttention", Renamed, r"\(AttributeError: 'Renamed' object has no attribute 'to_q'\)"),
        ("WanAttnProcessor", Reformed, r"\(its layers and this pack's differ by [\d.e+]+\)"),
    ],
)
def test_a_diffusers_that_has_changed_is_refused_by_name_when_a_model_is_loaded(wan, monkeypatch, name, changed, said):
    monkeypatch.setattr(transformer_wan, name, changed)
    monkeypatch.setattr(trial.diffusers, "__version__", f"{trial.TESTED}.0.dev0")
    wanted = (
        rf"^diffusers {re.escape(trial.TESTED)}\.0\.dev0 has another WanTransformer3DModel or AutoencoderKLWan than this pack knows "
        rf"{said}: install diffusers<0\.\d+$"
    )
    with pytest.raises(JobRefused, match=wanted):
        table.load(folder.inspect(str(wan)), torch.float32)


def test_a_newer_diffusers_that_has_not_changed_will_do(wan, monkeypatch):
    monkeypatch.setattr(trial.diffusers, "__version__", "7.8.9")
    assert table.load(folder.inspect(str(wan)), torch.float32).dtype == torch.float32


def test_a_diffusers_that_can_not_build_the_vae_of_5b_is_refused_with_the_one_that_can(tmp_path, monkeypatch):
    model = folder.inspect(str(wan_builders.wan_folder(tmp_path / "timed", timed=True)))

    def before(self, base_dim: int = 96, z_dim: int = 16):
        """As it was in 0.33."""

    monkeypatch.setattr(AutoencoderKLWan, "__init__", before)
    with pytest.raises(
        JobRefused, match=r"^the VAE of Wan 2.2 5B needs diffusers 0.35 or newer, this is .*: install diffusers>=0.35$"
    ):
        table.load(model, torch.float32)
