"""The memory layout of an adapter's numbers: the same for all adapters whose files are laid out alike."""

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loradock.checkpoints.adapters.adapter import WEIGHTS_FILE, AdapterConfig
from loradock.checkpoints.adapters.inspection import AdapterFiles, not_finite, understand, without_tables
from loradock.checkpoints.adapters.packed import GROUPS, PACKED_FILE, PAGE, first_page, in_order
from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.safetensors_header import parse_header
from loradock.engine.dtypes import Dtype
from loradock.engine.kernels.adapter_packing import KINDS, finite, pack
from loradock.engine.runtime.mapping import mapped
from loradock.types.errors import DamagedWeights

PLACE = 4
LINE = PLACE * max(len(modules) for modules in GROUPS.values())
NUMBER = {group: number for number, group in enumerate(GROUPS)}
_BEFORE = {
    module: (NUMBER[group], modules[: modules.index(module)]) for group, modules in GROUPS.items() for module in modules
}
"""For each module: the number of its group, and the modules whose columns come before its own."""
Array = np.ndarray[Any, Any]
Laid = tuple[Array, Array]
"""`LoadedAdapter.packed` and `lines`."""


@dataclass(frozen=True)
class Layout:
    """The input of `packing_kernels.pack`, `size` numbers in all, and `LoadedAdapter.lines` with the rows' numbers in
    place of their addresses. `tensors`: the names behind the moves, A before B. `file_size` in bytes."""

    file_size: int
    config: AdapterConfig
    tensors: list[str]
    moves: Array
    scales: Array
    size: int
    lines: Array

    @property
    def rank(self) -> int:
        return int(self.lines[:, :, 1::PLACE].max())

    def take(self, path: Path, files: AdapterFiles, dtype: Dtype) -> Laid | None:
        """The same as `pack`, of what was packed before (`checkpoints.packed`), where it lies: nothing is copied, and
        engines share it. None when there is nothing, or something else."""
        found = _mapped(path / PACKED_FILE, PAGE + 2 * self.size) if dtype is Dtype.BFLOAT16 else None
        if found is None or found[:PAGE].tobytes() != first_page(path, files):
            return None
        packed = found[PAGE:].view(dtype.numpy)
        # Looked at here, so that the compute thread need not wait for the disk.
        if not finite(packed):
            return None
        return self._with_addresses(packed)

    def pack(self, path: Path, dtype: Dtype) -> Laid:
        """`packed` and `lines` of what lies in this folder. Raises AdapterRefused when a number is not finite."""
        # NumPy asks for large pages where there is much: fewer addresses to translate in every step.
        packed = np.empty(self.size, dtype.numpy)
        with (path / WEIGHTS_FILE).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            if len(mapped) != self.file_size:
                raise DamagedWeights(f"{WEIGHTS_FILE} was changed while it was read: load the adapter again")
            content = np.frombuffer(mapped, np.uint8)
            bad = pack(content, self.moves, self.scales, packed)
            del content  # before the map can be closed
        if bad >= 0:
            raise not_finite(self.tensors[bad])
        return self._with_addresses(packed)

    def _with_addresses(self, packed: Array) -> Laid:
        lines = self.lines.copy()
        starts, ranks = lines[:, :, 0::PLACE], lines[:, :, 1::PLACE]
        starts[ranks > 0] = starts[ranks > 0] * packed.itemsize + packed.ctypes.data
        return packed, lines


def _mapped(file: Path, size: int) -> Array | None:
    """A file of this size as bytes that are private to who writes to them; None when there is none."""
    try:
        if not file.is_file() or file.stat().st_size != size:
            return None
        return mapped(file, size)
    except OSError:
        return None


def lay_out(files: AdapterFiles, architecture: Architecture) -> Layout:
    """Lay an adapter out in the order in which a step reads it. Raises AdapterRefused."""
    report, tensors = without_tables(understand(files, architecture)), parse_header(files.header)
    linears = architecture.linears()
    lines = np.zeros((architecture.layers, len(GROUPS), LINE), np.int64)
    names, moves, scales, at = [], [], [], 0
    for pair in in_order(report):
        width, into = linears[pair.module]
        kinds = [(tensors[name].start, KINDS.index(tensors[name].dtype)) for name in (pair.a, pair.b)]
        names += [pair.a, pair.b]
        moves.append((*kinds[0], *kinds[1], pair.rank, into, width, at))
        scales.append(pair.scaling)
        group, before = _BEFORE[pair.module]
        begin = sum(linears[module][0] for module in before)
        place = PLACE * len(before)
        lines[pair.layer, group, place : place + PLACE] = (at, pair.rank, begin, begin + width)
        at += pair.rank * (into + width)
    numbers = np.array(moves, np.int64), np.array(scales, np.float32)
    return Layout(files.header.size, report.config, names, *numbers, at, lines)
