import pytest
from pydantic import ValidationError

from harness.places import BUNDLED
from parallel.families import folder
from parallel.job.job import Job, Prompt, Scope, checked
from parallel.wire.messages import BlockHandle, Work, from_bytes, to_bytes


def test_a_message_survives_the_wire():
    prompts, scope = (Prompt(frame=0, text="a"),), Scope(local_bias=(1.5, 2))
    job = checked(Job, model="m", prompts=prompts, frames=10, height=64, width=64, scope=scope, seed=2**64 - 1)
    model = folder.inspect(str(BUNDLED))
    work = Work(number=3, job=job, model=model, latents=BlockHandle(path="/x", shape=(1, 2), dtype="float32"))
    assert from_bytes(to_bytes(work)) == work


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[1]", b'{"kind": "work"}', b'{"kind": "nope"}', b"\xff\xfe", b'{"kind":"hello","rank":1,"x":2}']
)
def test_garbage_is_no_message(data):
    with pytest.raises(ValidationError):
        from_bytes(data)
