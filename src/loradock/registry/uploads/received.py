"""Files that arrive in the request body, a folder's or one archive."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol

from loradock.registry.archives import unpack
from loradock.registry.blobs import Blobs
from loradock.registry.contents import check_entry_name, is_wanted, pick
from loradock.registry.transfer import Limits, Transfer, human_bytes
from loradock.store.failures import room_on_disk
from loradock.types.enums import ModelKind
from loradock.types.errors import BadRequest, TooLarge

_ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar")


class Sink(Protocol):
    def write(self, data: bytes, /) -> int: ...


class Received:
    """A folder in staging that the API fills before the upload is submitted. Leaving it as a context discards what
    was not handed over to an upload by then."""

    label = "upload"

    def __init__(self, blobs: Blobs, limits: Limits) -> None:
        with room_on_disk():
            self._folder = blobs.stage()
        self._limits = limits
        self._limit = limits.bytes_for(None)
        self._files: dict[str, Path | None] = {}
        self._bytes = 0
        self._handed_over = False

    def __enter__(self) -> "Received":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if not self._handed_over:
            self.discard()

    def hand_over(self) -> None:
        """Leave discarding it to the upload."""
        self._handed_over = True

    @property
    def is_empty(self) -> bool:
        return not self._files

    def expect(self, kind: ModelKind) -> None:
        """Expect files of this kind, so that its limit holds from here on."""
        self._limit = self._limits.bytes_for(kind)

    @contextmanager
    def open(self, filename: str) -> Iterator[Sink]:
        """Open a sink for one file's bytes; files that no model needs are counted but not kept.

        Raises BadRequest for unusable names, TooLarge beyond the limit and StorageFull.
        """
        name = filename.replace("\\", "/").removeprefix("./")
        check_entry_name(name)
        if not name or name in self._files:
            raise BadRequest(f"the upload holds {name!r} twice" if name else "a file of the upload has no name")
        if len(self._files) >= 1000:
            raise BadRequest("the upload holds more than 1000 files: send only the model's files")
        path = self._folder / str(len(self._files)) if _is_kept(name) else None
        self._files[name] = path
        with room_on_disk(), open(path or "/dev/null", "wb") as file:  # noqa: PTH123 - "/dev/null" is not a Path here
            yield _Counted(self, file)

    def count(self, count: int) -> None:
        self._bytes += count
        if self._bytes > self._limit:
            raise TooLarge(f"the upload is larger than {human_bytes(self._limit)}, the limit of this server")

    def discard(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def fetch(
        self, workspace: Path, into: Path, kind: ModelKind | None, transfer: Transfer, subfolder: str | None = None
    ) -> ModelKind:
        try:
            return self._sort(into, kind, transfer, subfolder)
        finally:
            self.discard()

    def _sort(self, into: Path, kind: ModelKind | None, transfer: Transfer, subfolder: str | None) -> ModelKind:
        archives = [path for name, path in self._files.items() if path and name.lower().endswith(_ARCHIVES)]
        if archives and len(self._files) == 1:
            return unpack(archives[0], into, kind, transfer, subfolder)
        found, wanted = pick(self._files, kind, subfolder)
        transfer.begin("checking", self._bytes, found)
        for name, file in wanted.items():
            path = self._files[name]
            if path is not None:
                path.rename(into / file)
        return found


class _Counted:
    def __init__(self, received: Received, file: BinaryIO) -> None:
        self._received = received
        self._file = file

    def write(self, data: bytes, /) -> int:
        self._received.count(len(data))
        with room_on_disk():
            return self._file.write(data)


def _is_kept(name: str) -> bool:
    base = name.rpartition("/")[2]
    return name.lower().endswith(_ARCHIVES) or any(is_wanted(base, kind) for kind in ModelKind)
