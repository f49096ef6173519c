"""A command that was given wrongly, and how this program is called."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from loradock.types.errors import BadRequest

EXIT_USAGE = 2


class UsageProblem(BadRequest):
    """An option or argument has a value that it cannot have: like every usage error, exit status 2."""


def program() -> str:
    """Return what to type to run this program here: the name where the PATH has it, else where it lies."""
    if shutil.which("loradock"):
        return "loradock"
    script = Path(sys.argv[0])
    if script.name == "loradock" and script.is_file():
        return shlex.quote(os.path.relpath(script) if script.is_relative_to(Path.cwd()) else str(script))
    return f"{shlex.quote(sys.executable)} -m loradock.cli.main"
