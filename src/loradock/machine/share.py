"""The share of this machine that the process may use: processors and memory, by the smaller of the machine and its
groups."""

import math
import os
from pathlib import Path

from loradock.machine.cgroups import group_limits

_MEMORY = Path("/proc/meminfo")
_OWN, _OWN_SHARE = 256 << 20, 16


def usable_processors(root: Path = Path("/")) -> int:
    """Return how many threads can compute at a time without being held up: a quota is rounded down, and at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = group_limits(root).processors
    return allowed if quota is None else max(1, min(allowed, math.floor(quota)))


def memory_total(root: Path = Path("/")) -> int:
    """Bytes."""
    machine, _ = _machine_memory()
    limit = group_limits(root).memory
    return machine if limit is None else min(machine, limit)


def memory_to_give(root: Path = Path("/")) -> int:
    """The same for others than the server itself, less what that may still grow by."""
    return max(0, memory_free(root) - min(_OWN, memory_total(root) // _OWN_SHARE))


def memory_free(root: Path = Path("/")) -> int:
    """Bytes that can still be taken; files that the system keeps in memory count as free."""
    _, machine = _machine_memory()
    free = group_limits(root).memory_free
    return machine if free is None else min(machine, free)


def _machine_memory() -> tuple[int, int]:
    """Total and available bytes. Read here where Linux tells them: an engine that starts would wait for psutil."""
    try:
        lines = (line.split() for line in _MEMORY.read_text().splitlines())
        kib = {name: int(value) for name, value, *_ in lines}
        return kib["MemTotal:"] << 10, kib["MemAvailable:"] << 10
    except (OSError, KeyError):
        import psutil

        machine = psutil.virtual_memory()
        return int(machine.total), int(machine.available)
