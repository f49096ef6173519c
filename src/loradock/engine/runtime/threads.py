"""The number of threads, and the processors they run on."""

import contextlib
import ctypes
import os
import threading
import time
from pathlib import Path

_libc = ctypes.CDLL(None) if hasattr(os, "sched_setaffinity") else None


def processors() -> frozenset[int]:
    """The processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def current_processor() -> int:
    """The number of the one that this thread is on; -1 where the system does not tell."""
    return _libc.sched_getcpu() if _libc else -1


def thread_seconds(number: int | None) -> float:
    """Processor time that a thread of this process has used, by its native number; where the system does not tell,
    that of the whole process."""
    try:
        return int(Path(f"/proc/self/task/{number}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, ValueError, IndexError):
        return time.process_time()


class Helpers:
    """The threads that compute beside the compute thread, kept off its processor.

    Two that wait for each other on one processor, because something of less importance has the other, take turns at
    it, and the system takes seconds to see that. Only Linux can be told. With fewer processors than `count` and the
    compute thread need, they stay where the system puts them.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._threads: list[int] = []
        self._kept: tuple[int, int] | None = None

    def join(self) -> None:
        """Add the calling thread; each of them calls this."""
        self._threads.append(threading.get_native_id())

    def keep_off(self) -> None:
        """Keep the others off the compute thread's processor; it calls this before it has them run: they sleep, so that
        none is moved while it runs."""
        kept = current_processor(), len(self._threads)
        if kept == self._kept or kept[0] < 0:
            return
        self._kept = kept
        others = processors() - {kept[0]}
        for thread in self._threads if len(others) >= self._count else ():
            with contextlib.suppress(OSError):  # it has ended, or the processors were changed just now
                os.sched_setaffinity(thread, others)
