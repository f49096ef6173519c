"""Memory: how many servers are up at a time, and whether the machine ran short of it while one was measured."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from loradock.machine.share import memory_free, memory_total

_KEPT = 0.2
"""Share of what is free at the start that is for the client, and for what nobody thought of."""
_STALLED = 0.01
_SCARCE = 0.03
_PRESSURE = Path("/proc/pressure/memory")


class Sized(Protocol):
    memory_gib: float


P = TypeVar("P", bound=Sized)


def default_budget() -> float:
    """GiB."""
    return (1 - _KEPT) * memory_free() / 2**30


def groups(peers: Sequence[P], budget: float) -> list[list[P]]:
    """Those that are up together take at most `budget` GiB, each as much as it says; in their order."""
    found: list[list[P]] = []
    for peer in peers:
        if not found or sum(one.memory_gib for one in found[-1]) + peer.memory_gib > budget:
            found.append([])
        found[-1].append(peer)
    return found


def too_large(peers: Iterable[P], budget: float) -> list[P]:
    """Those that do not fit even alone."""
    return [peer for peer in peers if peer.memory_gib > budget]


@dataclass
class Pressure:
    """Of the span since it was made: `pressed` says whether tasks stood still for want of memory, or hardly any was
    left. Figures of such a span tell of the machine and not of the server."""

    clock: Callable[[], float]
    file: Path = _PRESSURE

    def __post_init__(self) -> None:
        self._begun, self._stalled = self.clock(), self._total()

    def pressed(self) -> bool:
        stalled = (self._total() - self._stalled) / 1e6
        return stalled > _STALLED * (self.clock() - self._begun) or memory_free() < _SCARCE * memory_total()

    def _total(self) -> int:
        """Microseconds in which some task waited (docs.kernel.org/accounting/psi.html); 0 where it is not told."""
        try:
            line = self.file.read_text().splitlines()[0]
        except (OSError, IndexError):
            return 0
        return int(line.rpartition("total=")[2])
