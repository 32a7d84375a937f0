"""What these tests run on their ranks, as tests/on_ranks.py does."""

from benchmarks import ablations, study, wan_decode, wan_hiding, wan_plan
from parallel.comm.group import Group


def make_way(group: Group, called, frames):
    """Make a short video in one of the study's ways; return this rank's clip of its latents."""
    way = next(way for way in ablations.WAYS if way.name == called)
    job = study.job(study.Task(way, frames, 1)).model_copy(update={"num_inference_steps": 2})
    return ablations.make(study.model(), job, way, group)


def meter_wan(group: Group, travel):
    """Return the messages and bytes of a rank in one call of the small net."""
    return wan_plan.meter(group, travel)


def hide_wan(group: Group):
    """Return what is measured of each way to run a Wan transformer, on tiny latents."""
    return wan_hiding.measure(group, repeats=1, blocks=1, side=2)


def decode_wan(group: Group):
    """Return this rank's seconds of a short video's decode, by its clip and whole."""
    return wan_decode.measure(group, "the small trained VAE", clip=2, side=8, repeats=1)
