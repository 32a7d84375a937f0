"""What a process may use of a machine: cores by its affinity, time and memory by its control groups."""

import os

import pytest

from parallel.job.errors import JobRefused
from parallel.pool import Pool, devices
from parallel.wire import cgroup

GIB = 2**30


def lay(folder, files: dict[str, str]):
    """Write small files; return the folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


CPU = {
    "version 2": ("0::/job", {"cpu.max": "max 100000", "job/cpu.max": "150000 100000"}, 1.5),
    "version 2, the group above has less": (
        "0::/pod/job",
        {"pod/cpu.max": "200000 100000", "pod/job/cpu.max": "max 100000"},
        2.0,
    ),
    "version 2, in a container that sees its own group as the top": ("0::/docker/abc", {"cpu.max": "50000 100000"}, 0.5),
    "version 1": (
        "3:cpuset:/\n2:cpu,cpuacct:/job",
        {"cpu,cpuacct/job/cpu.cfs_quota_us": "400000\n", "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n"},
        4.0,
    ),
    "version 1, a container's": (
        "2:cpu:/docker/abc",
        {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"},
        1.0,
    ),
    "version 1 without a quota": ("2:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    "no limit": ("0::/", {"cpu.max": "max 100000"}, None),
    "no group": ("", {}, None),
    "garbage": ("0::/", {"cpu.max": "none of it"}, None),
}


@pytest.mark.parametrize("membership, files, cores", CPU.values(), ids=CPU)
def test_a_quota_of_cpu_time_is_read_of_every_group_that_limits(tmp_path, membership, files, cores):
    lay(tmp_path, {"self": membership})
    assert cgroup.cpu_quota(lay(tmp_path / "mount", files | {"x": ""}), tmp_path / "self") == cores


MEMORY = {
    "version 2": (
        "0::/",
        {"memory.max": f"{4 * GIB}", "memory.current": f"{3 * GIB}", "memory.stat": f"anon 1\ninactive_file {GIB}\n"},
        2 * GIB,
    ),
    "version 1": (
        "4:memory:/docker/abc",
        {
            "memory/memory.limit_in_bytes": f"{4 * GIB}",
            "memory/memory.usage_in_bytes": f"{3 * GIB}",
            "memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB}\n",
        },
        2 * GIB,
    ),
    "version 2, the group above has less": (
        "0::/pod/job",
        {
            "pod/memory.max": f"{2 * GIB}",
            "pod/memory.current": f"{GIB}",
            "pod/memory.stat": "",
            "pod/job/memory.max": f"{8 * GIB}",
            "pod/job/memory.current": f"{GIB}",
            "pod/job/memory.stat": "",
        },
        GIB,
    ),
    "no limit": ("0::/", {"memory.max": "max\n", "memory.current": "5\n", "memory.stat": ""}, None),
    "no group": ("", {}, None),
}


@pytest.mark.parametrize("membership, files, room", MEMORY.values(), ids=MEMORY)
def test_a_limit_of_memory_is_read_of_every_group_that_limits(tmp_path, membership, files, room):
    lay(tmp_path, {"self": membership})
    assert cgroup.free_memory(lay(tmp_path / "mount", files | {"x": ""}), tmp_path / "self") == room


def test_other_systems_have_no_groups(tmp_path):
    assert cgroup.cpu_quota(tmp_path, tmp_path / "none") is None and cgroup.free_memory(tmp_path, tmp_path / "none") is None


@pytest.fixture
def one_core():
    """This process may run on one core of those that it has."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def test_ranks_and_their_threads_follow_the_affinity_and_not_the_machine(one_core, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 32)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert devices.usable_cores() == 1
    assert devices.resolve("auto") == ("cpu",)
    assert Pool(("cpu",)).threads == 1 and Pool(("cpu", "cpu")).threads == 1


def test_ranks_and_their_threads_follow_the_quota(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(32)))
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    for quota, cores in ((None, 32), (8.0, 8), (1.5, 1), (0.5, 1), (64.0, 32)):
        monkeypatch.setattr(devices.cgroup, "cpu_quota", lambda quota=quota: quota)
        assert devices.usable_cores() == cores
    monkeypatch.setattr(devices.cgroup, "cpu_quota", lambda: 8.0)
    assert [Pool((device,) * 2).threads for device in ("cpu", "cuda:0")] == [4, 4]
    assert Pool(("cpu",), threads=3).threads == 3


def test_a_gpu_takes_one_rank(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert devices.resolve("cuda:1, cuda:0") == ("cuda:1", "cuda:0")
    with pytest.raises(JobRefused, match=r"^devices cuda:0,cuda:0: one rank a GPU: name each GPU once$"):
        devices.resolve("cuda:0,cuda:0")
