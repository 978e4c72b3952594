"""The default number of threads, on machines made of files."""

import pytest

from odyssey_core import ops
from odyssey_core.backends.numba import NumbaBackend, layout
from odyssey_core.errors import ConfigError
from odyssey_core.machine import usable_cores, usable_memory


def machine(root, siblings: list[str] = (), cgroup: str = "", **files: str):
    """Writes /sys topology, /proc/self/cgroup and cgroup files; ``__`` in a name stands for ``/``."""
    for cpu, text in enumerate(siblings):
        folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(text + "\n")
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("cpu_", "cpu.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


PAIRS = ["0,2", "1,3", "0,2", "1,3"]


def test_siblings_count_once(tmp_path):
    root = machine(tmp_path, PAIRS)
    assert usable_cores(root, range(4)) == 2
    assert usable_cores(root, [0, 2]) == 1
    assert usable_cores(root, [1, 2]) == 2


def test_without_a_topology_every_cpu_is_a_core(tmp_path):
    assert usable_cores(machine(tmp_path), [3, 5, 8]) == 3


@pytest.mark.parametrize(
    ("cgroup", "files", "cores"),
    [
        ("0::/a/b\n", {"a__b__cpu_max": "250000 100000"}, 2),
        ("0::/a/b\n", {"a__b__cpu_max": "max 100000", "a__cpu_max": "300000 100000"}, 3),
        ("0::/a/b\n", {"a__b__cpu_max": "50000 100000"}, 1),
        ("0::/a/b\n", {"a__b__cpu_max": "max 100000"}, 8),
        ("0::/on/the/host\n", {"cpu_max": "200000 100000"}, 2),
        (
            "4:memory:/x\n1:cpu,cpuacct:/x\n",
            {"cpu__x__cpu_cfs_quota_us": "400000", "cpu__x__cpu_cfs_period_us": "100000"},
            4,
        ),
        ("1:cpu:/x\n0::/\n", {"cpu__cpu_cfs_quota_us": "150000", "cpu__cpu_cfs_period_us": "100000"}, 1),
        ("1:cpu:/x\n", {"cpu__x__cpu_cfs_quota_us": "-1", "cpu__x__cpu_cfs_period_us": "100000"}, 8),
        ("2:cpuset:/x\n", {"cpuset__x__cpu_cfs_quota_us": "1", "cpuset__x__cpu_cfs_period_us": "100000"}, 8),
    ],
)
def test_quota(tmp_path, cgroup, files, cores):
    assert usable_cores(machine(tmp_path, cgroup=cgroup, **files), range(8)) == cores


def test_never_more_than_the_groups(monkeypatch):
    monkeypatch.setattr("odyssey_core.backends.numba.usable_cores", lambda: 64)
    assert NumbaBackend(groups=1).threads == 1
    assert NumbaBackend(threads=5, groups=1).threads == 1


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("", {}, 2**30),
        ("0::/slice/job", {"slice__memory.max": "1000000", "slice__job__memory.max": "max"}, 1_000_000),
        ("0::/slice/job", {"slice__job__memory.max": str(2**40)}, 2**30),
        ("5:memory:/docker/1", {"memory__memory.limit_in_bytes": "123456"}, 123_456),
    ],
    ids=["the machine's", "of a cgroup around it", "more than there is", "version 1"],
)
def test_memory_is_the_machines_or_what_cgroups_leave(tmp_path, cgroup, files, expected):
    root = machine(tmp_path, cgroup=cgroup, **files)
    (root / "proc/meminfo").write_text("MemTotal:        1048576 kB\nMemFree: 1 kB\n")
    assert usable_memory(root) == expected


@pytest.mark.parametrize(
    ("limit", "expected"), [("unlimited", 2**30), ("300000000", (300_000_000 - 200_000 * 1024) * 9 // 10), ("1000", 0)]
)
def test_memory_is_what_the_limit_of_the_address_space_leaves(tmp_path, limit, expected):
    root = machine(tmp_path, cgroup="")
    (root / "proc/meminfo").write_text("MemTotal:        1048576 kB\n")
    (root / "proc/self/limits").write_text(
        f"Max data size    unlimited  unlimited  bytes\nMax address space    {limit}"
    )
    (root / "proc/self/status").write_text("VmPeak:   900000 kB\nVmSize:   200000 kB\n")
    assert usable_memory(root) == expected


def test_a_step_larger_than_memory_is_refused_with_the_batch_that_fits(monkeypatch):
    """The batch that is named does fit, and sixteen images more do not."""
    w = ops.parameter("w", (4, 4, 3, 3))
    norm = [ops.parameter("g", (4,)), ops.parameter("b", (4,))]
    norm += [ops.buffer("m", (4,), ops.leaves.ZERO), ops.buffer("v", (4,), ops.leaves.ZERO)]

    def losses(batch):
        x = ops.input_("x", (batch, 4, 6, 6))
        h = ops.batch_norm2d(ops.conv2d(x, w, padding=1), *norm)
        return ops.cross_entropy(ops.global_avg_pool2d(h), ops.labels(batch))

    held = dict(zip(("w", "g", "b", "m", "v"), (w, *norm), strict=True))
    backend = NumbaBackend(threads=1)
    needed = {batch: sum(backend.memory([losses(batch)], held).values()) for batch in (160, 176, 400)}
    assert needed[160] < needed[176] < needed[400]
    monkeypatch.setattr(layout, "usable_memory", lambda: needed[176] - 1)
    with pytest.raises(ConfigError, match=r"a step of 400 images takes 0\.0 GiB .*; trainer\.batch_size=160 fits"):
        backend.compile([losses(400)], held)
    assert backend.memory([losses(160)], held)
    with pytest.raises(ConfigError, match=r"trainer\.batch_size=160 fits"):
        backend.memory([losses(161)], held)
