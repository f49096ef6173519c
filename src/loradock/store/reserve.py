"""Room on the disk that is kept for when there is none: deleting writes, too, before it frees anything."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

_PIECES = 4
_BYTES = 2 << 20
_SHARE = 128
_LEAST = 64 << 10


class Reserve:
    """Four files in `folder`, 8 MiB together and less on a small disk. On a full one they are given up, one at a time:
    something else may take the room first. They are made again once there is enough."""

    def __init__(self, folder: Path) -> None:
        self._pieces = [folder / str(number) for number in range(1, _PIECES + 1)]

    def spend(self) -> None:
        """Give up one piece of it."""
        for piece in self._pieces:
            with suppress(OSError):
                piece.unlink()
                return

    def restore(self) -> None:
        """Make the missing pieces again, where twice all of it is free."""
        with suppress(OSError):  # no room after all, or a disk that cannot be written to: the next time, then
            folder = self._pieces[0].parent
            folder.mkdir(exist_ok=True)
            size = _piece(folder)
            if shutil.disk_usage(folder).free >= 2 * _PIECES * size:
                for piece in self._pieces:
                    if not piece.exists():
                        _allocate(piece, size)

    def is_needed(self) -> bool:
        """Whether the disk is as good as full."""
        folder = self._pieces[0].parent.parent
        return shutil.disk_usage(folder).free < _piece(folder) // 2


def _piece(folder: Path) -> int:
    return max(_LEAST, min(_BYTES, shutil.disk_usage(folder).total // _SHARE))


def _allocate(piece: Path, size: int) -> None:
    try:
        with piece.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError:
        piece.unlink()
        raise
