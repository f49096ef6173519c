"""Packed base models on disk, which every engine on this machine maps: where they are, and which go when room is short.

A file is whole once it has its name; one that is used is touched. Whoever has mapped a file that is deleted keeps it.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = "LORADOCK_CACHE_DIR"
"""The environment variable that names another folder."""
MOST = "LORADOCK_CACHE_GIB"
"""The environment variable that bounds what all files together take."""
_MOST_GIB = 64.0
_GIB = 2**30
_SUFFIX = ".packed"


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A packed model's file: its size in bytes, and when it was used last, as a time of day."""

    path: Path
    size: int
    used: float

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(_SUFFIX)


def cache_folder() -> Path:
    """Return where packed models are kept."""
    chosen = os.environ.get(FOLDER)
    if chosen:
        return Path(chosen) / "packed"
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "loradock" / "packed"


def file_of(name: str) -> Path:
    """Return the file of a packed model, whether there is one or not."""
    return cache_folder() / f"{name}{_SUFFIX}"


def cached_models() -> list[CachedModel]:
    """Return all that are there, the one that was used last first."""
    found = [CachedModel(path, facts.st_size, facts.st_mtime) for path, facts in _files(_SUFFIX)]
    return sorted(found, key=lambda model: -model.used)


def clear() -> list[CachedModel]:
    """Delete all packed models; return those that were there."""
    found = cached_models()
    for model in found:
        model.path.unlink(missing_ok=True)
    for path, _ in _files(".partial"):
        path.unlink(missing_ok=True)
    return found


def make_room(size: int) -> bool:
    """Delete what was not used for longest until so many bytes more are within the bound and fit the disk; whether they
    do."""
    most = float(os.environ.get(MOST) or _MOST_GIB) * _GIB
    oldest_first = cached_models()[::-1]
    while (
        sum(model.size for model in oldest_first) + size > most or shutil.disk_usage(cache_folder()).free < size + _GIB
    ):
        if not oldest_first:
            return False
        oldest_first.pop(0).path.unlink(missing_ok=True)
    return True


def _files(suffix: str) -> Iterator[tuple[Path, os.stat_result]]:
    folder = cache_folder()
    for path in folder.glob(f"*{suffix}") if folder.is_dir() else ():
        try:
            yield path, path.stat()
        except OSError:  # deleted just now
            continue
