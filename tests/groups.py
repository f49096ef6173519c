"""Control groups of the kernel's own, for tests of what happens within their limits."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def own_group(controller: str, **limits: int) -> Iterator[Path]:
    """A new group of version 1 below the one that this process is in, removed again at the end, when all that was in it
    has to be gone. Skips the test where none can be made. `limits`: file of the controller → value."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    path = next((path for _, names, path in lines if controller in names.split(",")), None)
    if path is None:
        pytest.skip(f"no control groups of version 1 for {controller} here")
    folder = Path(f"/sys/fs/cgroup/{controller}{path}") / f"loradock-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"a control group cannot be made here: {error}")
    try:
        for file, value in limits.items():
            (folder / f"{controller}.{file}").write_text(str(value))
        yield folder
    finally:
        folder.rmdir()


JOIN = """
import os, sys
for folder in sys.argv[1].split(","):
    with open(folder + "/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def within(folders: list[Path], *arguments: str) -> list[str]:
    """What follows the interpreter in the command of a Python that runs in these groups."""
    return ["-c", JOIN, ",".join(map(str, folders)), *arguments]
