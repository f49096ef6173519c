"""Room on the disk that is kept for when there is none: deleting writes, too, before it frees anything."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

_BYTES = 8 << 20
_SHARE = 32
_LEAST = 256 << 10


class Reserve:
    """A file of 8 MiB, less on a small disk, that is given up on a full disk and made again once there is room."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def spend(self) -> None:
        self._file.unlink(missing_ok=True)

    def restore(self) -> None:
        """Where it is missing and twice its size is free."""
        try:
            disk = shutil.disk_usage(self._file.parent)
            size = max(_LEAST, min(_BYTES, disk.total // _SHARE))
            if not self._file.exists() and disk.free >= 2 * size:
                self._allocate(size)
        except OSError:  # no room after all, or a disk that cannot be written to: the next time, then
            self.spend_if_possible()

    def spend_if_possible(self) -> None:
        with suppress(OSError):
            self.spend()

    def _allocate(self, size: int) -> None:
        with self._file.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
