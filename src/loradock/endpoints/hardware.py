"""What this machine really has to run replicas on."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache

import psutil

from loradock.types.errors import BadRequest

ZONE = "local"
"""The one availability zone of a single machine."""


@dataclass(frozen=True)
class Hardware:
    """`memory_gib` is the device's own memory; a CPU's is the machine's."""

    id: str
    kind: str
    link: str
    memory_gib: float
    count: int

    @property
    def usable(self) -> bool:
        """The embedded engine computes on the CPU."""
        return self.kind == "cpu"


@lru_cache(maxsize=1)
def machine_hardware() -> tuple[Hardware, ...]:
    """NVIDIA GPUs first, then the CPU."""
    cores = os.cpu_count() or 1
    memory = round(psutil.virtual_memory().total / 2**30)
    cpu = Hardware(f"1x_cpu_{cores}c_{memory}gb", "cpu", "none", memory, 1)
    return (*_nvidia(), cpu)


def check_hardware(wanted: str) -> str:
    """The id to store for what was asked; empty means the machine's default. Raises BadRequest."""
    known = machine_hardware()
    usable = [hardware.id for hardware in known if hardware.usable]
    if wanted in ("", "cpu"):
        return usable[0]
    if wanted in usable:
        return wanted
    why = " is a GPU, and the engine computes on the CPU" if wanted in [h.id for h in known] else " is not here"
    raise BadRequest(
        f"invalid hardware provided: {wanted!r}{why}; give {' or '.join(usable)}, or leave it empty", param="hardware"
    )


def check_zone(zone: str | None) -> str | None:
    """Raises BadRequest for a zone this machine is not."""
    if zone not in (None, "", ZONE):
        raise BadRequest(
            f"unknown availability zone {zone!r}; the only one here is {ZONE!r}", param="availability_zone"
        )
    return zone or None


def _nvidia() -> list[Hardware]:
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        lines = (
            subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout.strip().splitlines()
        )
    except (OSError, subprocess.SubprocessError):
        return []
    found = [line.rpartition(",") for line in lines]
    return [_gpu(name.strip(), float(memory)) for name, _, memory in dict.fromkeys(found)]


def _gpu(name: str, mebibytes: float) -> Hardware:
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return Hardware(f"1x_{slug}", slug, "pcie", round(mebibytes / 1024), 1)
