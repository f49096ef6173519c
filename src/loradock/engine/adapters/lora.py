"""Reading an adapter, and laying it out for whoever applies it.

Projections that share an input (q, k, v; gate, up) are a group. For the kernels everything of an adapter lies in one
run of memory, in the order in which it is read (`packed`), with the scaling folded into B.
"""

import itertools
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from loradock.checkpoints.adapters.adapter import AdapterConfig, parse_adapter_config
from loradock.checkpoints.adapters.inspection import AdapterFiles, read_files, understand
from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.conventions import Conventions
from loradock.checkpoints.safetensors_header import parse_header
from loradock.engine.adapters import packing
from loradock.engine.dtypes import Dtype
from loradock.types.errors import AdapterRefused

Array = np.ndarray[Any, Any]

_KEPT = 16
_LONG = 1 << 18
_load_ids = itertools.count(1)


@dataclass(eq=False)
class LoadedAdapter:
    """An adapter as loaded; `bytes` of memory.

    `lines` int64 `[layers, groups, LINE]` has for each module of a group: the address of its rows in `packed`, the rank
    (0: none), and its first and end column of the group's output. A row is one row of A and the same row of B^T.
    """

    name: str
    path: Path
    config: AdapterConfig
    packed: Array
    lines: Array
    bytes: int
    device_groups: list[dict[str, Any]] = field(default_factory=list)
    """`[layer][group]`: (A, B) as tensors of another device's decoder, or absent; empty for the kernels."""
    load_id: int = field(default_factory=lambda: next(_load_ids))
    conventions: Conventions = field(default_factory=Conventions)
    """What the adapter's folder says about chat templates and end tokens."""


class AdapterReader:
    """Reads and checks the adapters of one model for the kernels; never on the compute thread.

    Nearly all of the time goes by without the interpreter's lock, which the compute thread needs some hundred times a
    step: what adapters of the same training have in common is worked out once.
    """

    def __init__(self, architecture: Architecture, dtype: Dtype, *, max_rank: int | None = None) -> None:
        self.architecture = architecture
        self.dtype = dtype
        self._max_rank = max_rank
        self._layouts = lru_cache(_KEPT)(self._lay_out)

    def check(self, path: Path) -> None:
        """Check the adapter without reading tensors; a file that was cut short is noticed. Raises AdapterRefused."""
        files = self._files(path)
        config, _ = parse_adapter_config(files.config), parse_header(files.header)
        most = max([config.rank, *config.rank_pattern.values()])
        if self._max_rank is not None and most > self._max_rank:
            self.check_rank(understand(files, None).max_rank)

    def read(self, name: str, path: Path) -> LoadedAdapter:
        """Raises AdapterRefused."""
        files = self._files(path)
        # A very long one is not worth the room.
        layout = self._layouts(files) if len(files.header.text) < _LONG else self._lay_out(files)
        packed, lines = layout.take(path, files, self.dtype) or layout.pack(path, self.dtype)
        return LoadedAdapter(name, path, layout.config, packed, lines, packed.nbytes)

    @staticmethod
    def _files(path: Path) -> AdapterFiles:
        if not path.is_dir():
            raise AdapterRefused("there is no folder of this adapter on the server", param="lora_path")
        return read_files(path)

    def check_rank(self, rank: int) -> None:
        """Raises AdapterRefused for more than the engine takes."""
        most = self._max_rank
        if most is not None and rank > most:
            raise AdapterRefused(
                f"the adapter has rank {rank}; this engine takes up to {most} (start it with a larger --max-lora-rank)"
            )

    def _lay_out(self, files: AdapterFiles) -> packing.Layout:
        layout = packing.lay_out(files, self.architecture)
        self.check_rank(layout.rank)
        return layout
