"""The limits that control groups set to this process, of version 1 and 2, with all groups around its own.

What the files mean: https://docs.kernel.org/admin-guide/cgroup-v2.html and …/cgroup-v1/memory.html.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_UNLIMITED = 2**60
"""Version 1 writes the largest number there is, rounded down to a page, where there is no limit."""

_RECLAIMABLE = ("inactive_file", "active_file", "slab_reclaimable")
"""The fields of memory.stat that the kernel takes back before it ends a process (as MemAvailable counts it for the
machine). A group's bare usage is full of files that were read once."""


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """`memory` and `memory_free` in bytes, `processors` a number of them that may be broken; None: no limit."""

    memory: int | None = None
    memory_free: int | None = None
    processors: float | None = None


def group_limits(root: Path = Path("/")) -> GroupLimits:
    """The tightest of all groups that hold this process; `root` is where /proc and /sys are."""
    memory: list[int] = []
    free: list[int] = []
    processors: list[float] = []
    for folder, version in _folders(root, "memory"):
        for limit in _memory_limits(folder, version):
            memory.append(limit)
            free.append(max(0, limit - _used(folder, version)))
    for folder, version in _folders(root, "cpu"):
        processors += _quota(folder, version)
    return GroupLimits(min(memory, default=None), min(free, default=None), min(processors, default=None))


def out_of_memory_kills(root: Path = Path("/")) -> int | None:
    """Return how many processes the kernel has ended for want of memory since it started; None where it does not
    tell."""
    for line in _text(root / "proc" / "vmstat").splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill":
            return int(value)
    return None


def _folders(root: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """Yield those of this process's groups that a controller has, its own first; with the version."""
    groups = dict(_groups(root))
    for mount, within, kind, options in _mounts(root):
        name = "" if kind == "cgroup2" else controller
        if name not in groups or (kind == "cgroup" and controller not in options):
            continue
        version = 2 if kind == "cgroup2" else 1
        top = root / mount.relative_to("/")
        own = _below(PurePosixPath(groups[name]), within)
        yield from ((top.joinpath(*own.parts[:depth]), version) for depth in range(len(own.parts), -1, -1))


def _below(group: PurePosixPath, within: PurePosixPath) -> PurePosixPath:
    """A group's path under its mount. In a container the mount shows only the container's own group, and the path
    may be told as the machine sees it."""
    return group.relative_to(within) if group.is_relative_to(within) and ".." not in group.parts else PurePosixPath()


def _groups(root: Path) -> Iterator[tuple[str, str]]:
    """Controller ("" for version 2) and path."""
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        _, _, entry = line.partition(":")
        controllers, _, path = entry.partition(":")
        for controller in controllers.split(","):
            yield controller, path


def _mounts(root: Path) -> Iterator[tuple[PurePosixPath, PurePosixPath, str, list[str]]]:
    """Yield where groups are shown: mount point, the group at its top, file system and its options."""
    for line in _text(root / "proc" / "self" / "mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = [*after.split(" "), "", ""][:3]
        if kind in ("cgroup", "cgroup2"):
            fields = before.split(" ")
            yield PurePosixPath(fields[4]), PurePosixPath(fields[3]), kind, options.split(",")


def _memory_limits(folder: Path, version: int) -> Iterator[int]:
    """Yield memory limits. Beyond memory.high a group is not ended but slowed down until it stands still. Version 1
    also tells of the groups around, which a container does not see."""
    names = ("memory.max", "memory.high") if version == 2 else ("memory.limit_in_bytes",)
    values = [_text(folder / name).strip() for name in names]
    if version == 1:
        values.append(_statistics(folder).get("hierarchical_memory_limit", ""))
    yield from (int(value) for value in values if value.isdigit() and int(value) < _UNLIMITED)


def _used(folder: Path, version: int) -> int:
    usage = _text(folder / ("memory.current" if version == 2 else "memory.usage_in_bytes")).strip()
    statistics, total = _statistics(folder), "" if version == 2 else "total_"
    reclaimable = sum(int(statistics.get(total + name, 0)) for name in _RECLAIMABLE)
    return max(0, int(usage or 0) - reclaimable)


def _statistics(folder: Path) -> dict[str, str]:
    pairs = (line.partition(" ") for line in _text(folder / "memory.stat").splitlines())
    return {name: value for name, _, value in pairs}


def _quota(folder: Path, version: int) -> list[float]:
    if version == 2:
        quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
    else:
        quota, period = (_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    return [int(quota) / int(period)] if quota.isdigit() and period.isdigit() and int(period) else []


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
