"""An environment of its own for each peer, so that none can disturb another's versions."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.places import CACHE, ENVIRONMENTS


class Unavailable(Exception):
    """A peer cannot take part; the words say why."""


@dataclass(frozen=True)
class Environment:
    """`installs`: the arguments of one `pip install` after the other. `removes`: what must not be there afterwards.
    `variables`: for builds from source."""

    name: str
    installs: Sequence[Sequence[str]]
    removes: Sequence[str] = ()
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return ENVIRONMENTS / self.name

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def ready(self) -> None:
        """Install once. Raises Unavailable with the last lines of pip when that fails."""
        stamp = self.folder / f"bench-{'+'.join(word for words in self.installs for word in words)}".replace("/", "_")
        if stamp.exists():
            return
        print(f"Installing {self.name} in {self.folder} (some minutes)", flush=True)
        if not self.python.exists():
            self._run([sys.executable, "-m", "venv", str(self.folder)])
        for packages in self.installs:
            self._run([*self._pip("install"), *packages])
        if self.removes:
            self._run([*self._pip("uninstall"), "--yes", *self.removes])
        stamp.touch()

    def version(self, package: str) -> str:
        script = f"from importlib.metadata import version; print(version({package!r}))"
        return subprocess.run([self.python, "-c", script], capture_output=True, text=True, check=True).stdout.strip()

    def _pip(self, command: str) -> list[str]:
        return [str(self.python), "-m", "pip", "--disable-pip-version-check", command, "--quiet"]

    def _run(self, command: list[str]) -> None:
        CACHE.mkdir(parents=True, exist_ok=True)
        log = CACHE / f"install-{self.name}.log"
        with log.open("ab") as output:
            done = subprocess.run(
                command, check=False, stdout=output, stderr=output, env={**os.environ, **self.variables}
            )
        if done.returncode:
            last = [line for line in log.read_text(errors="replace").splitlines() if "ERROR" in line.upper()][-1:]
            raise Unavailable(f"{' '.join(command[-2:])} does not install here: {' '.join(last)} (see {log})")
