"""Explains why a replica's process ended, in plain words, and what that says about the requests it was computing."""

import re
import signal
import time
from collections import deque
from collections.abc import Callable

from loradock.machine.cgroups import out_of_memory_kills
from loradock.types.enums import Fate

_GIB, _MIB = 2**30, 2**20
_LOOKS, _APART_S = 3, 1.0
_STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[,.\d]* +(?:ERROR|CRITICAL) +")
_ALL_IS_WELL = re.compile(r"^(?:\d{4}-\d\d-\d\d \S+ +)?(?:DEBUG|INFO|WARNING)\b|^(?:\(\w+ pid=\d+\) )?INFO\b")
"""The beginning of a line that says nothing about an end, of our engine and of vLLM."""

_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGSYS, signal.SIGTRAP}
"""Signals that a process brings about itself."""


class KillCount:
    """Whether the kernel has ended a process for want of memory in the last seconds: it counts them all, and does so a
    moment before they are gone."""

    def __init__(self, read: Callable[[], int | None] = out_of_memory_kills) -> None:
        self._read = read
        self._seen = deque([(time.monotonic(), read())], maxlen=_LOOKS)

    def note(self) -> None:
        if time.monotonic() - self._seen[-1][0] >= _APART_S:
            self._seen.append((time.monotonic(), self._read()))

    def moved(self) -> bool:
        before, now = self._seen[0][1], self._read()
        return before is not None and now is not None and now > before


def fate_of(exit_code: int | None, *, starved: bool) -> Fate:
    """`exit_code` as the system tells it, minus the number of a signal; None where it told somebody else. `starved`:
    the kernel ended a process for want of memory at that time."""
    if starved and exit_code in (None, -signal.SIGKILL):
        return Fate.OUT_OF_MEMORY
    if exit_code is None:
        return Fate.UNKNOWN
    if exit_code in (0, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP, -signal.SIGQUIT):
        return Fate.KILLED
    return Fate.CRASHED


def reason_of(exit_code: int | None, resident: int, words: str) -> str:
    """`resident`: bytes of memory it had when last seen. `words`: the last it wrote."""
    said = "" if _ALL_IS_WELL.match(words) else _STAMP.sub("", words)
    size = f" (RSS {_size(resident)})" if resident else ""
    if exit_code is None:
        return said or f"it ended without saying why{size}; whoever started it was told its exit code"
    if exit_code == -signal.SIGKILL:
        return f"killed by signal 9, probably out of memory{size}"
    if exit_code < 0:
        return _of_signal(-exit_code, size, said)
    if exit_code == 0:
        return "it left with exit code 0: somebody asked it to"
    return said or f"it ended with exit code {exit_code} without saying why{size}"


def _of_signal(number: int, size: str, said: str) -> str:
    known = next((found for found in signal.Signals if found == number), None)
    name = f"signal {number}" + (f" ({known.name})" if known else "")
    if known in _FAULTS:
        return f"crashed: {name}{size}" + (f"; its last words: {said}" if said else "")
    return f"killed by {name}: somebody ended it"


def _size(count: int) -> str:
    return f"{count / _GIB:.2f} GiB" if count >= _GIB else f"{count / _MIB:.0f} MiB"
