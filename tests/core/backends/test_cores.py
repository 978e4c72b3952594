"""The default number of threads, on machines made of files."""

import pytest

from odyssey_core.backends.numba import NumbaBackend
from odyssey_core.backends.numba.cores import usable_cores


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
