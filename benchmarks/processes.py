"""Starting a server, what its whole process tree takes of the machine, and ending all of it."""

import atexit
import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.places import CACHE


@dataclass(frozen=True)
class Memory:
    """MiB. `pss` counts what processes share once, `rss` once for each; `peak`: the most that was resident so far, as
    `rss` counts it."""

    pss: float
    rss: float
    peak: float


class Tree:
    """A process and all that it starts."""

    def __init__(self, name: str, command: Sequence[str | Path], environment: dict[str, str] | None = None) -> None:
        self.log = CACHE / "logs" / f"{name}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )
        atexit.register(self.end)  # also when the run is interrupted in the middle of a start

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def last_words(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return " | ".join(line.strip()[:300] for line in lines[-3:])

    def memory(self) -> Memory:
        pss = rss = peak = 0
        for member in self._members():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                found = member.memory_full_info()
                pss, rss, peak = pss + found.pss, rss + found.rss, peak + _peak(member.pid)
        return Memory(pss / 2**20, rss / 2**20, peak / 2**20)

    def cpu_seconds(self) -> float:
        seconds = 0.0
        for member in self._members():
            with contextlib.suppress(psutil.NoSuchProcess):
                spent = member.cpu_times()
                seconds += spent.user + spent.system
        return seconds

    def end(self) -> None:
        """Politely, then not: some engines leave processes behind that compute in sessions of their own."""
        atexit.unregister(self.end)
        members = self._members()
        if self.alive:
            self._process.send_signal(signal.SIGTERM)
        _, left = psutil.wait_procs(members, timeout=10)
        for member in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(left, timeout=10)
        self._process.wait(timeout=10)

    def _members(self) -> list[psutil.Process]:
        try:
            first = psutil.Process(self._process.pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def _peak(pid: int) -> int:
    """In bytes; 0 where Linux does not tell it."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 0
