"""A small job for a tiny model, of one branch: two cost twice as many exchanges, and tests of guidance ask for them."""

from parallel.job.job import Job, Prompt, Scope, checked


def job(model, **change) -> Job:
    values = {"prompts": (Prompt(frame=0, text="a cat"),), "frames": 9, "height": 16, "width": 16, "num_inference_steps": 4}
    values["guidance_scale"] = 1.0
    return checked(Job, **{**values, "model": str(model), "scope": Scope(local_context=2, global_frames=3), **change})
