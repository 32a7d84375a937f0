"""What a fault on a rank is called, and what a user is told to do."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.distributed as dist
from safetensors import SafetensorError

from harness.jobs import job
from parallel.comm.group import open_group
from parallel.job.errors import JobRefused, OutOfStep, Overflowed, PeerLost
from parallel.pool import Pool
from parallel.rank.faults import explain


class AcceleratorError(RuntimeError):
    """By the name of torch's own, which needs a GPU to be raised."""


@pytest.mark.parametrize(
    "error, fault, said",
    [
        (
            torch.OutOfMemoryError("Tried to allocate 2.00 GiB. GPU"),
            "memory",
            "ran out of memory (it tried to allocate 2.00 GiB): use",
        ),
        (MemoryError(), "memory", "ran out of memory (no number known): use fewer or smaller frames"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "memory", "ran out of memory ("),
        (AcceleratorError("device is lost"), "device", "lost its device (device is lost): look at it with nvidia-smi"),
        (RuntimeError("CUDA error: unspecified launch failure"), "device", "lost its device (CUDA error: unspecified"),
        (SafetensorError("incomplete"), "crash", "could not read the model's weights (incomplete): get the folder again"),
        (ImportError("No module named 'x'"), "crash", "could not import a package (No module named 'x'): install what"),
        (JobRefused("no"), "crash", "refused its job: no"),
        (PeerLost("gone"), "peer", "could not go on: gone"),
        (Overflowed("the numbers overflowed", rank=None), "overflow", "the numbers overflowed"),
        (
            OutOfStep("too many at step 2"),
            "out_of_step",
            "too many at step 2: this is a fault of the pack: report it, with the log",
        ),
        (ValueError("a\nb"), "crash", "failed: ValueError: a b: its traceback is in the log; if it comes again, report it"),
    ],
)
def test_a_fault_is_named_with_its_cure(error, fault, said):
    got, words = explain(error)
    assert got == fault and words.startswith(said)


def test_ranks_that_can_not_meet_over_nccl_say_so_with_its_own_words(monkeypatch):
    """On a machine without a GPU NCCL fails as it starts, for real."""
    if torch.cuda.is_available():
        pytest.skip("NCCL would start here")
    monkeypatch.setattr(dist, "get_default_backend_for_device", lambda device: "nccl")
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with pytest.raises(PeerLost, match=r"^the ranks could not meet over nccl \(.*NCCL.*\): start ComfyUI with NCCL_DEBUG=INFO"):
        open_group(0, 2, torch.device("cpu"), host="127.0.0.1", port=store.port, name="none")
    if dist.is_initialized():
        dist.destroy_process_group()


def test_ranks_that_can_add_up_but_not_exchange_do_not_meet(monkeypatch):
    """torch's own backend without peers: its collectives end at once, and bring nothing."""
    fake = pytest.importorskip("torch.testing._internal.distributed.fake_pg")
    monkeypatch.setattr(dist, "get_default_backend_for_device", lambda device: "fake")
    monkeypatch.setattr(dist, "TCPStore", lambda *_, **__: fake.FakeStore())
    with pytest.raises(
        PeerLost, match=r"^the ranks could not meet over fake \(what rank 1 sent came to rank 0 as something else\)"
    ):
        open_group(0, 2, torch.device("cpu"), host="127.0.0.1", port=1, name="none")
    dist.destroy_process_group()


def test_two_pools_on_one_machine_do_not_meet(tiny, pools):
    wanted = [pools(2).run(job(tiny, seed=seed)).latents for seed in (1, 2)]
    with Pool(("cpu",) * 2, threads=1) as one, Pool(("cpu",) * 2, threads=1) as other, ThreadPoolExecutor() as threads:
        runs = [threads.submit(pool.run, job(tiny, seed=seed)) for seed, pool in ((1, one), (2, other))]
        got = [run.result().latents for run in runs]
    assert all(torch.equal(a, b) for a, b in zip(got, wanted))
