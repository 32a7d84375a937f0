"""What the host says of a Wan before anything runs: what it was trained on, which net works when, what a frame attends to."""

import json

import pytest
import torch

from harness.wan_builders import wan_folder
from parallel.families import flow, folder
from parallel.job.errors import JobRefused
from parallel.job.job import Job, Prompt, Scope, checked
from parallel.plan import keys_notice, plan, size_notice
from parallel.sampler import schedule


@pytest.fixture(scope="module")
def wan(tmp_path_factory):
    return wan_folder(tmp_path_factory.mktemp("wan"), two_nets=True)


def job(model, frames=241, **change) -> Job:
    values = {"prompts": (Prompt(frame=0, text="a cat"),), "height": 32, "width": 32, "num_inference_steps": 20}
    return checked(Job, **{**values, "model": str(model), "frames": frames, **change})


@pytest.mark.parametrize("name", ["euler", "uni_pc", "dpmpp_2m"])
@pytest.mark.parametrize("shift", [None, 1.0, 5.0, 12.0])
def test_the_steps_of_each_net_are_those_of_the_scheduler(wan, name, shift):
    model = folder.inspect(str(wan))
    for steps in (1, 4, 20, 41):
        scheduler = schedule.build(model, name, shift)
        scheduler.set_timesteps(steps)
        times = scheduler.timesteps.tolist()
        levels = flow.noise_levels(model.schedulers[name], steps, shift or 3.0)  # 3: the folder's own
        assert [1000 * level for level in levels] == pytest.approx(times, abs=1.1), "DPM++ counts whole timesteps"
        high = sum(model.net_at(time) == 0 for time in times)
        work = job(wan, scheduler=name, shift=shift, num_inference_steps=steps, guidance_scale=4.0, guidance_scale_2=3.0)
        said = (
            f"nets: the one for high noise makes {high} steps, the one for low noise the other {steps - high} (cfg 4, then 3)"
        )
        assert model.remarks(work) == [said]


def test_of_a_part_of_the_schedule_the_steps_that_are_left_are_told(wan):
    model = folder.inspect(str(wan))
    scheduler, part = schedule.build(model, "uni_pc"), job(wan, scheduler="uni_pc", denoise=0.75, guidance_scale=4.0)
    high = sum(model.net_at(time) == 0 for time in schedule.timesteps(scheduler, part, torch.device("cpu")).tolist())
    assert 0 < high < 5
    assert model.remarks(part) == [
        f"nets: the one for high noise makes {high} steps, the one for low noise the other {15 - high} (cfg 4, then 4)"
    ]


def test_one_net_is_no_remark(tmp_path):
    model = folder.inspect(str(wan_folder(tmp_path)))
    assert model.remarks(job(tmp_path)) == []


def test_what_a_model_was_trained_on_is_known_or_its_folder_says_it(tmp_path):
    first, timed = wan_folder(tmp_path / "2.1"), wan_folder(tmp_path / "5B", timed=True)
    model = folder.inspect(str(first))
    assert (model.geometry.trained_frames, model.fps, model.guidance_scale, model.own_size) == (81, 16.0, 5.0, None)
    assert (model.geometry.local_context, model.geometry.global_latents) == (6, 8), "of 21 latents"
    model = folder.inspect(str(timed))
    assert (model.geometry.trained_frames, model.fps, model.usual_sizes, model.size_step) == (121, 24.0, ("1280x704",), 32)
    said = {"trained_frames": 33, "fps": 8, "size": [64, 48], "steps": "nobody's business"}
    (first / "training.json").write_text(json.dumps(said))
    model = folder.inspect(str(first))
    assert (model.geometry.trained_frames, model.fps, model.own_size, model.guidance_scale) == (33, 8.0, (64, 48), 5.0)
    for wrong in ({"trained_frames": 0}, {"fps": "fast"}, {"size": [64]}, {"size": [64, -1]}):
        (first / "training.json").write_text(json.dumps(wrong))
        with pytest.raises(JobRefused, match=r"training.json: .*: get the folder again$"):
            folder.inspect(str(first))


def test_a_frame_attends_to_whole_latents_by_default_as_many_as_the_model_was_trained_on(wan):
    model = folder.inspect(str(wan))
    outline = plan(job(wan), 2, model)
    sight = outline.sight(100)
    assert sight.latent == range(97, 101)
    assert sight.near == tuple(range(73, 125)), "6 latents on either side"
    latents = {model.geometry.latent_of(frame) for frame in sight.spread}
    assert 0 in latents and len(latents) in (6, 7, 8), "8 are global, and one or two of them may lie in the window"
    assert keys_notice(job(wan), model.geometry) is None
    wide = job(wan, scope=Scope(local_context=120))
    assert "a model that was trained on 81 wants 64 to 208" in keys_notice(wide, model.geometry)


def test_full_windows_see_as_much_at_the_ends_as_in_the_middle(wan):
    model = folder.inspect(str(wan))
    narrow = Scope(local_context=8, global_frames=12)
    counts = {}
    for full in (False, True):
        outline = plan(job(wan, scope=narrow.model_copy(update={"full_windows": full})), 2, model)
        sights = [outline.sight(frame) for frame in (240, 100, 124)]
        latents = [{model.geometry.latent_of(frame) for frame in sight.near + sight.spread} for sight in sights]
        counts[full] = [len(each) for each in latents]
    assert counts[False][0] < counts[False][1] and len(set(counts[True])) == 1, counts


def test_in_a_loop_the_first_latent_is_a_neighbour_of_the_last(wan):
    outline = plan(job(wan, loop=True, scope=Scope(local_context=4, global_frames=0)), 2, folder.inspect(str(wan)))
    assert outline.sight(240).near == (0, *range(233, 241))


@pytest.mark.parametrize(
    "size, is_far",
    [((480, 832), False), ((832, 480), False), ((720, 1280), False), ((544, 960), False), ((480, 640), False)]
    + [((240, 416), True), ((1088, 1920), True), ((320, 1280), True)],
)
def test_a_size_that_the_model_was_not_trained_on_is_noticed(tmp_path, size, is_far):
    wan = wan_folder(tmp_path)
    height, width = size
    said = size_notice(job(wan, height=height, width=width), folder.inspect(str(wan)))
    usual = (
        f"{width}x{height} is far from what this model was trained on: use about 832x480 or 1280x720, or expect worse frames"
    )
    assert said == (usual if is_far else None)
