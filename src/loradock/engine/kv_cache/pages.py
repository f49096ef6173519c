"""Pages of the KV cache brought in before a step needs them.

The first block in a fresh huge page costs the system the zeroing of that page, once per layer for keys and for values:
60 pages of 2 MiB for a model of 30 layers, which takes a tenth of a second on a virtual machine. That would fall into
the one step that happens to be the first there.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_HUGE = 2 * 2**20
_POPULATE_WRITE = 23
"""MADV_POPULATE_WRITE, of Linux 5.14 on: https://man7.org/linux/man-pages/man2/madvise.2.html."""
_NICE = 19


class PagesAhead:
    """Brings pages of arrays `[layers, blocks, …]` into memory ahead of use. `used` is called by one thread, whenever
    a block is handed out."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self._arrays = list(arrays) if sys.platform == "linux" else []
        sizes = [array[0, 0].nbytes for array in self._arrays]
        self._span = max(2, _HUGE // max(sizes)) if sizes else 0
        """Blocks that share a huge page in each layer."""
        self._known: set[int] = set()
        """Spans whose pages are there, or on their way."""
        self._wanted: SimpleQueue[int] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def used(self, block: int) -> None:
        """Note that a block is used; once half of a span has been used, the next one is brought in."""
        if not self._span:
            return
        span, place = divmod(block, self._span)
        self._known.add(span)
        if place >= self._span // 2 and span + 1 not in self._known:
            self._known.add(span + 1)
            self._wanted.put(span + 1)
            if self._thread is None:
                self._thread = threading.Thread(target=self._bring, name="pages", daemon=True)
                self._thread.start()

    def given_back(self) -> None:
        """Memory was given back to the system: nothing is known of any page."""
        self._known.clear()

    def _bring(self) -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        libc = ctypes.CDLL(None, use_errno=True)
        while True:
            span = self._wanted.get()
            for address, size in self._ranges(span):
                # Where the kernel does not know it, pages come when they are used, as ever.
                libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), _POPULATE_WRITE)

    def _ranges(self, span: int) -> list[tuple[int, int]]:
        """(address, bytes) of a span in every layer, of whole small pages."""
        found = []
        page = os.sysconf("SC_PAGE_SIZE")
        for array in self._arrays:
            layers, blocks = array.shape[:2]
            size = array[0, 0].nbytes
            first, end = span * self._span, min(blocks, (span + 1) * self._span)
            for layer in range(layers):
                low = array.ctypes.data + (layer * blocks + first) * size
                high = array.ctypes.data + (layer * blocks + end) * size
                low, high = -(-low // page) * page, high // page * page
                if high > low:
                    found.append((low, high - low))
        return found
