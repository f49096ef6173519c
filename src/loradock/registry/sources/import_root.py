"""A folder or archive on the server itself, under the import root the operator configured."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from loradock.registry.archives import unpack
from loradock.registry.contents import pick
from loradock.registry.transfer import Transfer
from loradock.types.enums import ModelKind
from loradock.types.errors import BadRequest

_DEEPEST = 5
_MAX_FILES = 20_000


@dataclass(frozen=True)
class Imported:
    """`path` is resolved and lies inside `root`."""

    path: Path
    root: Path
    label: str

    @classmethod
    def from_url(cls, url: str, import_root: Path | None) -> "Imported":
        """`file:///absolute/inside/the/root` or `file://relative/to/the/root`. Raises BadRequest."""
        if import_root is None:
            raise BadRequest(
                "file:// sources need an import root, and this server has none: start it with --import-root <folder>,"
                " or upload the files",
                param="model_source",
            )
        parts = urlsplit(url)
        host = "" if parts.netloc == "localhost" else parts.netloc
        return cls(inside(import_root, Path(unquote(host + parts.path))), import_root.resolve(), url[:500])

    def fetch(
        self, workspace: Path, into: Path, kind: ModelKind | None, transfer: Transfer, subfolder: str | None = None
    ) -> ModelKind:
        if not self.path.is_dir():
            transfer.begin("unpacking", None, kind)
            return unpack(self.path, into, kind, transfer, subfolder)
        found, wanted = pick(_below(self.path), kind, subfolder)
        files = {name: inside(self.root, self.path / entry) for entry, name in wanted.items()}
        transfer.begin("copying", sum(file.stat().st_size for file in files.values()), found)
        for name, file in files.items():
            with open_regular(file) as source, (into / name).open("xb") as target:
                transfer.copy(source, target)
        return found


def inside(root: Path, path: Path) -> Path:
    """`path`, its links resolved. Raises BadRequest unless it exists inside `root`."""
    try:
        resolved_root = root.resolve(strict=True)
        resolved = (resolved_root / path).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        resolved = None
    if resolved is None or not resolved.is_relative_to(resolved_root):
        raise BadRequest(
            f"{str(path)[:200]!r} is not a folder or archive under the import root of this server: put it there"
            " (links may not lead outside) and name it by file://<path>",
            param="model_source",
        )
    return resolved


def open_regular(file: Path) -> BinaryIO:
    """Opened without following a link or waiting on a pipe. Raises BadRequest for anything but a file."""
    handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise BadRequest(f"{file.name} is not a plain file")
    return os.fdopen(handle, "rb")


def _below(folder: Path) -> list[str]:
    """Files below the folder, `/` between, as deep and as many as a training leaves them. Raises BadRequest."""
    found: list[str] = []
    for place, folders, files in os.walk(folder):
        below = Path(place).relative_to(folder)
        found += [(below / file).as_posix() for file in files]
        if len(below.parts) == _DEEPEST:
            folders.clear()
        if len(found) > _MAX_FILES:
            raise BadRequest(f"the folder holds more than {_MAX_FILES} files: name the one that holds the model's")
    return found
