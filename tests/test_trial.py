"""The installed diffusers is the one that the layers fit, and another is refused before a job begins."""

import re

import pytest
import torch
from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.unets import unet_3d_blocks

from parallel.families import folder
from parallel.job.errors import JobRefused
from parallel.models import trial
from parallel.sampler import load


class Renamed(TemporalConvLayer):
    """As a later diffusers might have it: the same formula, its parts in a list."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.convs = torch.nn.ModuleList([self.conv1, self.conv2, self.conv3, self.conv4])
        del self.conv1, self.conv2, self.conv3, self.conv4

    def forward(self, hidden_states, num_frames=1):
        x = hidden_states.unflatten(0, (-1, num_frames)).transpose(1, 2)
        made = x
        for conv in self.convs:
            made = conv(made)
        return (x + made).transpose(1, 2).flatten(0, 1)


class Reformed(TemporalConvLayer):
    """The same parts, another formula."""

    def forward(self, hidden_states, num_frames=1):
        return super().forward(hidden_states, num_frames) - 0.5 * hidden_states


@pytest.mark.parametrize("difference", [trial.difference, trial.wan_difference])
def test_the_layers_fit_the_installed_diffusers(difference):
    state = torch.get_rng_state()
    assert difference() < 1e-4
    assert torch.equal(torch.get_rng_state(), state), "a trial leaves no trace"


@pytest.mark.parametrize(
    "changed, said",
    [
        (Renamed, r"\(AttributeError: 'Renamed' object has no attribute 'conv1'\)"),
        (Reformed, r"\(its layers and this pack's differ by [\d.]+\)"),
    ],
)
def test_a_diffusers_that_has_changed_is_refused_by_name_when_a_model_is_loaded(tiny, monkeypatch, changed, said):
    model = folder.inspect(str(tiny))
    monkeypatch.setattr(unet_3d_blocks, "TemporalConvLayer", changed)
    monkeypatch.setattr(trial.diffusers, "__version__", f"{trial.TESTED}.0.dev0")
    wanted = rf"^diffusers {re.escape(trial.TESTED)}\.0\.dev0 has another UNet3DConditionModel than this pack knows {said}: install diffusers<0\.\d+$"
    with pytest.raises(JobRefused, match=wanted):
        load.load(model, torch.float32)


def test_a_newer_diffusers_that_has_not_changed_will_do(tiny, monkeypatch):
    monkeypatch.setattr(trial.diffusers, "__version__", "7.8.9")
    assert load.load(folder.inspect(str(tiny)), torch.float32).dtype == torch.float32
