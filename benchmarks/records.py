"""What a run has found so far, kept in one JSON file, so that an interrupted run goes on where it stopped."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.places import ROOT
from benchmarks.processor import AVX2_CHOSEN, PYTORCH_TYPE, facts, instructions

_UNDISTURBED = 0.8


@dataclass
class Records:
    """`facts`: the machine and the versions. `rows`: one for each measurement; `kind` says of what."""

    file: Path
    facts: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> "Records":
        found = json.loads(file.read_text())
        return cls(file, found["facts"], found["rows"], found["missing"])

    @classmethod
    def open(cls, file: Path, *, fresh: bool) -> "Records":
        """What is there already, unless it is of another machine, day or Loradock than this."""
        here = machine()
        if file.exists() and not fresh and (found := cls.read(file)).facts == here:
            return found
        return cls(file, here)

    def add(self, **row: Any) -> None:
        self.rows.append({key: _rounded(value) for key, value in row.items()})
        self.save()

    def where(self, **wanted: object) -> list[dict[str, Any]]:
        return [row for row in self.rows if all(row.get(key) == value for key, value in wanted.items())]

    def values(self, column: str, **wanted: object) -> list[float]:
        return [row[column] for row in self.undisturbed(**wanted) if column in row]

    def undisturbed(self, **wanted: object) -> list[dict[str, Any]]:
        """Without those in which the machine was short of memory, or something else on it took the cores: the server
        got clearly less CPU time per second than at its best in the same case."""
        same = self.where(peer=wanted.get("peer"), case=wanted.get("case"))
        most = max((row.get("cpu_share", 0.0) for row in same), default=0.0)
        kept = [row for row in self.where(**wanted) if not row.get("pressed")]
        return [row for row in kept if row.get("cpu_share", most) >= _UNDISTURBED * most]

    def save(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        draft = self.file.with_suffix(".draft")
        draft.write_text(json.dumps({"facts": self.facts, "missing": self.missing, "rows": self.rows}, indent=1) + "\n")
        draft.replace(self.file)


@dataclass
class Budget:
    """`minutes` None: as long as it takes."""

    minutes: float | None
    begun: float = field(default_factory=time.monotonic)

    def allows(self, seconds: float = 0.0) -> bool:
        return self.minutes is None or time.monotonic() - self.begun + seconds < 60 * self.minutes


def machine() -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": _cpu_name(),
        "pytorch_type": PYTORCH_TYPE,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}",
        "loradock": _commit(),
    }


def _cpu_name() -> str:
    """Its name, and those of its instruction sets that matter here."""
    chosen = ", AVX2 kernels on an AVX-512 machine" if AVX2_CHOSEN else ""
    return f"{facts().get('model name', platform.machine())} ({', '.join(instructions())}){chosen}"


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return _or_empty(lambda: subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL)).strip()


def _or_empty(read: Callable[[], str]) -> str:
    try:
        return read()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _rounded(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) and value < 1e6 else value
