"""Settings that cannot work are refused before the server starts, each by its name."""

import os
import shlex
import subprocess
from pathlib import Path

from loradock.cli.usage import UsageProblem
from loradock.types.errors import BadRequest

_MIN_KEY = 16
_LOOK_FOR_VLLM = "import importlib.util; print('has vllm' if importlib.util.find_spec('vllm') else 'has none')"


def existing_folder(option: str, given: Path) -> Path:
    found = given.expanduser().resolve()
    if not found.is_dir():
        what = "is not a folder" if found.exists() else "does not exist"
        raise UsageProblem(f"{option} {found} {what}")
    return found


def vllm_python(given: Path) -> Path:
    """Return the python's path, not resolved: an environment's python is a link, and is known by where the link
    lies."""
    found = given.expanduser().absolute()
    if not (found.is_file() and os.access(found, os.X_OK)):
        raise UsageProblem(
            f"--vllm-python {found} is not an executable file: give the python of the environment that has vLLM, such"
            " as /opt/vllm/bin/python"
        )
    try:
        ended = subprocess.run([found, "-c", _LOOK_FOR_VLLM], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, UnicodeDecodeError, subprocess.TimeoutExpired) as error:
        raise UsageProblem(f"--vllm-python {found} cannot be run: {error}") from error
    said = ended.stdout.strip()
    if said not in ("has vllm", "has none"):
        raise UsageProblem(f"--vllm-python {found} is not a Python: give the python of the environment that has vLLM")
    if said == "has none":
        raise UsageProblem(f"--vllm-python {found} has no vLLM: install it there ({found} -m pip install vllm)")
    return found


def long_enough(key: str) -> str:
    if len(key) < _MIN_KEY or not (key.isascii() and key.isprintable()) or " " in key:
        raise UsageProblem(
            f"--bootstrap-key needs at least {_MIN_KEY} letters, digits or signs without blanks, and has {len(key)}:"
            " whoever guesses it owns this server. Make one with: openssl rand -hex 24"
        )
    return key


def engine_words(flags: str) -> tuple[str, ...]:
    """Raises BadRequest for what no engine could be started with, before the server is."""
    from loradock.engine.process.options import check_further

    words = split("--engine-args", flags)
    try:
        check_further(words)
    except BadRequest as error:
        raise UsageProblem(error.message) from error
    return words


def split(option: str, flags: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(flags))
    except ValueError as error:
        raise UsageProblem(f"{option} cannot be read ({error}): {flags}") from error
