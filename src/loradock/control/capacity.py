"""Tells how many more adapters an endpoint takes, with the numbers behind it."""

from dataclasses import dataclass
from pathlib import Path

import psutil

from loradock.control.options import ControlOptions
from loradock.machine.share import memory_free


@dataclass(frozen=True, slots=True)
class Capacity:
    """The capacity for adapters of `size` bytes beside the `attached` ones. Slots and memory are each replica's;
    adapters beyond them are served too, in turns and from disk."""

    size: int
    attached: int
    most: int
    slots: int
    kept_in_memory: int
    memory_free: int
    disk_free: int

    @property
    def at_once(self) -> int:
        """The number of further adapters that take part in the same step."""
        return max(0, self.slots - self.attached)

    @property
    def in_memory(self) -> int:
        """The number of further adapters that are never read from disk again."""
        return max(0, min(self.kept_in_memory - self.attached, self.memory_free // self.size))

    @property
    def on_disk(self) -> int:
        """The number of further adapters that can be uploaded."""
        return self.disk_free // self.size

    @property
    def fit(self) -> int:
        """The number of further adapters that can be attached: what `check_fits` lets pass."""
        return max(0, min(self.most - self.attached, self.on_disk)) if self.memory_free >= self.size else 0


def capacity(options: ControlOptions, blobs: Path, attached: int, size: int) -> Capacity:
    """`size` in bytes, at least 1; `blobs` is where uploads are kept."""
    return Capacity(
        size=max(1, size),
        attached=attached,
        most=options.max_attachments,
        slots=options.max_loras,
        kept_in_memory=options.max_cpu_loras,
        memory_free=memory_free(),
        disk_free=psutil.disk_usage(str(blobs)).free,
    )
