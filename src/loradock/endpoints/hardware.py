"""The hardware that this machine really has to run replicas on."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from loradock.machine.share import memory_total, usable_processors
from loradock.types.enums import EngineKind
from loradock.types.errors import BadRequest

ZONE = "local"
"""The one availability zone of a single machine."""


@dataclass(frozen=True)
class Hardware:
    """`memory_gib` is one device's own memory; a CPU's is what this server may use of it. `devices`: numbers of all
    GPUs of this kind, of which `count` are taken."""

    id: str
    kind: str
    link: str
    memory_gib: float
    count: int
    devices: tuple[int, ...] = ()

    def usable(self, *, vllm: bool) -> bool:
        """The embedded engine computes on the CPU; `vllm`: whether vLLM can be started for the GPUs."""
        return vllm or not self.devices


@lru_cache(maxsize=1)
def machine_hardware() -> tuple[Hardware, ...]:
    """NVIDIA GPUs first, by 1, 2, 4, …; then the CPU."""
    return (*_nvidia(), _cpu(usable_processors(), memory_total()))


def _cpu(cores: int, memory: int) -> Hardware:
    size = f"{round(memory / 2**30)}gb" if memory >= 2**30 else f"{memory >> 20}mb"
    return Hardware(f"1x_cpu_{cores}c_{size}", "cpu", "none", round(memory / 2**30, 1), 1)


def choose_hardware(wanted: str, engine: EngineKind | None, *, vllm: bool) -> tuple[str, EngineKind]:
    """The hardware id and engine for what was asked; empty and None mean the best this machine has.

    `vllm`: whether vLLM can be started here. It runs GPUs, the embedded engine the CPU. Raises BadRequest.
    """
    known = {hardware.id: hardware for hardware in machine_hardware()}
    usable = [h.id for h in known.values() if h.usable(vllm=vllm and engine is not EngineKind.EMBEDDED)]
    cpu = next(h.id for h in known.values() if not h.devices)
    chosen = {"": usable[0], "cpu": cpu}.get(wanted, wanted)
    if chosen not in usable:
        why = " is not here"
        if chosen in known:
            why = " is a GPU, which vLLM runs (`serve --vllm-python`) and the embedded engine does not"
        raise BadRequest(
            f"invalid hardware provided: {wanted!r}{why}; give {' or '.join(usable)}, or leave it empty",
            param="hardware",
        )
    return chosen, engine or (EngineKind.VLLM if known[chosen].devices else EngineKind.EMBEDDED)


def gpus_of(hardware_id: str) -> tuple[int, tuple[int, ...]]:
    """Return how many GPUs a replica on this hardware takes, and the numbers of those it may take; 0 and none for a
    CPU."""
    found = next((h for h in machine_hardware() if h.id == hardware_id and h.devices), None)
    return (found.count, found.devices) if found else (0, ())


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
    query = ["nvidia-smi", "--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        lines = (
            subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout.strip().splitlines()
        )
    except (OSError, subprocess.SubprocessError):
        return []
    kinds: dict[tuple[str, float], list[int]] = {}
    for line in lines:
        index, name, mebibytes = (part.strip() for part in line.split(","))
        kinds.setdefault((name, float(mebibytes)), []).append(int(index))
    return [hardware for (name, memory), devices in kinds.items() for hardware in _gpus(name, memory, tuple(devices))]


def _gpus(name: str, mebibytes: float, devices: tuple[int, ...]) -> Iterator[Hardware]:
    """Yield hardware by powers of two: a model's heads have to be shared out evenly."""
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    count = 1
    while count <= len(devices):
        yield Hardware(f"{count}x_{slug}", slug, "pcie", round(mebibytes / 1024), count, devices)
        count *= 2
