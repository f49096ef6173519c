"""Local files on their way to the server."""

import io
import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

from loradock.cli.output import console
from loradock.cli.usage import program
from loradock.types.enums import ModelKind
from loradock.types.errors import BadRequest

_ARCHIVE = re.compile(r".*\.(zip|tar|tar\.gz|tgz)")
_CONFIG = "/adapter_config.json"
_MAX_FILES = 20_000


class LocalFile:
    """A file that is opened when its turn comes; tells `advance` of the bytes read. What httpx needs of a file."""

    def __init__(self, path: Path, advance: Callable[[int], None]) -> None:
        self._path = path
        self._advance = advance
        self._open: BinaryIO | None = None

    def read(self, size: int = -1) -> bytes:
        if self._open is None:
            self._open = self._path.open("rb")
        data = self._open.read(size)
        self._advance(len(data))
        if not data:
            self.close()
        return data

    def tell(self) -> int:
        return self._open.tell() if self._open else 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """The end, to learn the length, or the start, before reading."""
        if whence == io.SEEK_END:
            return self._path.stat().st_size
        self.close()
        return 0

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def local_files(source: str, kind: ModelKind, subfolder: str | None = None) -> dict[str, Path] | None:
    """Name in the upload → file; None when `source` is not a local path.

    Raises BadRequest for what looks like a path and is not there, and for a folder that is not a model's.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return {path.name: path}
    if path.is_dir():
        return _folder(path, kind, subfolder)
    if _looks_local(source):
        raise BadRequest(f"there is no file or folder {source}")
    return None


def _folder(path: Path, kind: ModelKind, subfolder: str | None) -> dict[str, Path]:
    """Return only the files that a model of this kind needs, found as the server finds them. Raises BadRequest."""
    from loradock.registry.contents import pick

    files = {file.relative_to(path).as_posix(): file for file in _walk(path)}
    if not files:
        raise BadRequest(f"the folder {path} is empty: give the folder that PEFT's save_pretrained wrote")
    try:
        return {name: files[name] for name in pick(files, kind, subfolder)[1]}
    except BadRequest as error:
        beside = [name for name in files if name.count("/") == 1 and name.endswith(_CONFIG)]
        if kind is ModelKind.ADAPTER and subfolder is None and len(beside) > 1:
            everything = f"{program()} models upload {shlex.quote(str(path))}/*"
            raise BadRequest(f"{error.message}. To upload all of them: {everything}") from error
        raise


def _walk(path: Path) -> Iterator[Path]:
    for count, file in enumerate(sorted(file for file in path.rglob("*") if file.is_file())):
        if count == _MAX_FILES:
            raise BadRequest(f"{path} holds more than {_MAX_FILES} files: give the folder that holds the model's alone")
        yield file


def is_archive(source: str) -> bool:
    return bool(_ARCHIVE.fullmatch(source.partition("?")[0]))


def _looks_local(source: str) -> bool:
    if "://" in source:
        return False
    path = source.replace(os.sep, "/").partition("@")[0]  # a repo may have a revision, org/name@refs/pr/1
    return path.startswith((".", "/", "~")) or path.count("/") != 1 or is_archive(path)


def progress(*, quiet: bool) -> Progress:
    """Bytes sent, of all, and how fast."""
    columns = ("sending", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=console, transient=True, disable=quiet)
