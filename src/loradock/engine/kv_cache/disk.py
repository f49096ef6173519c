"""Blocks of the prefix cache that had to leave memory, in a file on disk."""

import logging
import os
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path
from queue import SimpleQueue

from loradock.engine.kernels.memory import Array
from loradock.engine.kv_cache.chains import Chain

log = logging.getLogger(__name__)

_MOST_PENDING = 64
"""Blocks that wait to be written; while there are more, others are left out: a slow disk holds nobody up."""


class DiskBlocks:
    """A file without a name, which goes when the engine ends, however it ends. The least recently used block is
    overwritten first. One thread puts and reads; another one writes.
    """

    def __init__(self, folder: Path, block_bytes: int, most_bytes: int) -> None:
        """Raises OSError where there can be no such file."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - open as long as the engine runs
        self._block_bytes = block_bytes
        self._free = list(range(max(1, most_bytes // block_bytes) - 1, -1, -1))
        self._places: OrderedDict[Chain, int] = OrderedDict()
        self._pending: dict[int, Array] = {}
        self._wanted: SimpleQueue[tuple[Chain, int, Array]] = SimpleQueue()
        self._lock = threading.Lock()
        """Held for what both threads change: places, and what is pending."""
        threading.Thread(target=self._write_all, name="prefix blocks", daemon=True).start()

    def __len__(self) -> int:
        return len(self._places)

    def put(self, chain: Chain, block: Array) -> None:
        """Keep a copy of a block, if there is time to write it."""
        with self._lock:
            if chain in self._places:
                self._places.move_to_end(chain)
                return
            if len(self._pending) >= _MOST_PENDING:
                return
            place = self._free.pop() if self._free else self._places.popitem(last=False)[1]
            self._places[chain] = place
            copy = block.copy()
            self._pending[place] = copy
        self._wanted.put((chain, place, copy))

    def read(self, chain: Chain, block: Array) -> bool:
        """Fill `block` with what was put; False, and it holds anything, where it is not there."""
        with self._lock:
            place = self._places.get(chain)
            if place is None:
                return False
            self._places.move_to_end(chain)
            pending = self._pending.get(place)
            if pending is not None:
                block[:] = pending
                return True
        try:
            read = os.preadv(self._file.fileno(), [block.data], place * self._block_bytes)
        except OSError as error:
            log.warning("a block of the prefix cache cannot be read: %s", error)
            read = 0
        if read != self._block_bytes:
            self._lose(chain, place)
        return read == self._block_bytes

    def forget_adapter(self, load_id: int) -> None:
        """Drop what is kept of an unloaded adapter."""
        with self._lock:
            for chain in [chain for chain in self._places if chain[0] == load_id]:
                self._free.append(self._places.pop(chain))

    def _lose(self, chain: Chain, place: int) -> None:
        with self._lock:
            if self._places.get(chain) == place:
                self._free.append(self._places.pop(chain))

    def _write_all(self) -> None:
        """Blocks are written in the order in which they came, so that of two for one place the later one stays."""
        while True:
            chain, place, block = self._wanted.get()
            try:
                written = os.pwritev(self._file.fileno(), [block.data], place * self._block_bytes)
            except OSError as error:
                log.warning("a block of the prefix cache cannot be written: %s", error)
                written = 0
            if written != self._block_bytes:
                self._lose(chain, place)
            with self._lock:
                if self._pending.get(place) is block:
                    del self._pending[place]
