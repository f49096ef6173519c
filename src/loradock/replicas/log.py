"""Reading why an engine ended from the end of its log."""

import os
from pathlib import Path

_TAIL_BYTES = 16_384
_LONGEST = 600
# What a traceback or an interpreter prints around the reason.
_NOISE = ("Traceback (most recent call last)", "  ", "\t", "During handling", "The above exception", "^")


def last_words(log: Path, lines: int = 2) -> str:
    """The last meaningful lines of `log`, shortened; says so when there are none."""
    said = [line.rstrip() for line in _tail(log).splitlines() if line.strip() and not line.startswith(_NOISE)]
    if not said:
        return "the engine ended without a word"
    # The last line is the reason by convention; the one before it helps only when the reason is a bare type.
    words = said[-1] if len(said[-1]) > 20 else "\n".join(said[-lines:])
    return words if len(words) <= _LONGEST else f"…{words[-_LONGEST:]}"


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
