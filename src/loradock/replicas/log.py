"""The end of an engine's log: to show it, and to read why the engine ended."""

import os
from pathlib import Path

_TAIL_BYTES = 16_384
_SHOWN_BYTES = 131_072
_LONGEST = 600
# What a traceback or an interpreter prints around the reason.
_NOISE = ("Traceback (most recent call last)", "  ", "\t", "During handling", "The above exception", "^")


def last_words(log: Path, lines: int = 2) -> str:
    """The last meaningful lines of `log`, shortened; empty when there are none."""
    said = [
        line.rstrip() for line in _tail(log, _TAIL_BYTES).splitlines() if line.strip() and not line.startswith(_NOISE)
    ]
    if not said:
        return ""
    # The last line is the reason by convention; the one before it helps only when the reason is a bare type.
    words = said[-1] if len(said[-1]) > 20 else "\n".join(said[-lines:])
    return words if len(words) <= _LONGEST else f"…{words[-_LONGEST:]}"


def log_tail(log: Path, lines: int) -> str:
    """The last `lines` lines of `log`, at most 128 KiB; empty when there is none."""
    return "\n".join(_tail(log, _SHOWN_BYTES).splitlines()[-lines:])


def log_part(log: Path, lines: int | None, offset: int) -> tuple[str, int]:
    """Return what follows `offset`, or with `lines` the last of them, up to the end of the last whole line; at most 128
    KiB. Also return where it ends, for the next part."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            begin = max(0, size - _SHOWN_BYTES) if lines is not None else min(max(0, offset), size)
            file.seek(begin)
            read = file.read(_SHOWN_BYTES)
    except OSError:
        return "", 0
    whole = read[: read.rfind(b"\n") + 1]
    if lines is not None:
        kept = whole.splitlines(keepends=True)[-lines:] if lines else []
        return b"".join(kept).decode(errors="replace"), begin + len(whole)
    return whole.decode(errors="replace"), begin + len(whole)


def _tail(log: Path, most: int) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - most))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
