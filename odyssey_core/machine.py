"""How many threads are worth starting, and how much memory there is."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path


def usable_cores(root: Path = Path("/"), allowed: Iterable[int] | None = None) -> int:
    """Physical cores that this process may use: its affinity, hyperthreads counted once, within the cgroups' CPU quota.

    Args:
        root: where ``proc`` and ``sys`` are.
        allowed: numbers of logical CPUs; by default the process's affinity.

    Returns:
        At least 1. A quota of two and a half CPUs is 2: a thread that is held back holds up all the others.
    """
    if allowed is None:
        known = hasattr(os, "sched_getaffinity")
        allowed = os.sched_getaffinity(0) if known else range(os.cpu_count() or 1)
    cores = {_siblings(root, cpu) for cpu in allowed}
    return max(1, min([len(cores), *(int(quota) for quota in _quotas(root))]))


def _siblings(root: Path, cpu: int) -> str:
    """The logical CPUs that share this one's core, as the kernel lists them."""
    text = _read(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return text or str(cpu)


def _quotas(root: Path) -> Iterator[float]:
    """CPUs' worth of time that each cgroup of this process has, those around it included."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mounts, names = ("", "unified"), ["cpu.max"]
        elif "cpu" in controllers.split(","):
            mounts, names = ("cpu", "cpu,cpuacct"), ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        # In a container the path may be the host's, which is not there: its own cgroup is then the mount itself.
        inside = Path(path.lstrip("/"))
        for folder in (inside, *inside.parents):
            for mount in mounts:
                values = " ".join(_read(root / "sys/fs/cgroup" / mount / folder / name) for name in names).split()
                if len(values) == 2 and values[0].isdigit() and int(values[1]) > 0:  # else "max" or -1: no limit
                    yield int(values[0]) / int(values[1])


def usable_memory(root: Path = Path("/")) -> int:
    """Bytes of memory that this process may use: the machine's, or what its cgroups and ``ulimit -v`` leave of it."""
    found = re.search(r"MemTotal:\s+(\d+) kB", _read(root / "proc/meminfo"))
    limits = [1024 * int(found[1])] if found else [2**62]
    if space := re.search(r"Max address space\s+(\d+)", _read(root / "proc/self/limits")):
        taken = re.search(r"VmSize:\s+(\d+) kB", _read(root / "proc/self/status"))
        left = int(space[1]) - (1024 * int(taken[1]) if taken else 0)
        limits.append(max(0, left * 9 // 10))  # the rest is for what comes beside one large array
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        mount, name = ("memory", "memory.limit_in_bytes") if "memory" in controllers.split(",") else ("", "memory.max")
        inside = Path(path.lstrip("/"))
        for folder in (inside, *inside.parents) if controllers in ("", "memory") or mount else ():
            value = _read(root / "sys/fs/cgroup" / mount / folder / name)
            limits += [int(value)] if value.isdigit() else []  # else "max": no limit
    return min(limits)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def installed_version(package: str) -> str | None:
    """The version of an installed package; None where there is none."""
    from importlib import metadata  # which takes as long as composing a configuration does

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
