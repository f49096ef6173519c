"""Model files by content: `blobs/sha256/<digest>/`, immutable, published by one rename."""

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import RLock

DERIVED = "."
_CHUNK = 1 << 20


class Blobs:
    """Hold `lock` from publishing (or freeing) until the rows that say so are committed."""

    def __init__(self, data_dir: Path) -> None:
        self.root = data_dir / "blobs" / "sha256"
        self.staging = data_dir / "staging"
        self.lock = RLock()
        for folder in (self.root, self.staging):
            folder.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        return self.root / digest

    def stage(self) -> Path:
        """A fresh folder on the same file system; what is left in it is wiped at the next start."""
        folder = self.staging / uuid.uuid4().hex
        folder.mkdir()
        return folder

    def publish(self, folder: Path) -> tuple[str, int]:
        """Move a staged folder of files to its place; publishing the same content again changes nothing. A file whose
        name begins with a dot is made of the others, and no content.

        Returns (digest, bytes). Durable when it returns.
        """
        there = list(folder.iterdir())
        files = [file for file in there if not file.name.startswith(DERIVED)]
        digest = content_digest(files)
        size = sum(file.stat().st_size for file in files)
        for file in there:
            file.chmod(0o444)
            _sync(file)
        _sync(folder)
        with self.lock:
            if self.path(digest).is_dir():
                shutil.rmtree(folder)
            else:
                folder.rename(self.path(digest))
                _sync(self.root)
        return digest, size

    def free(self, digest: str) -> None:
        """Renamed away before it is deleted, so that a kill never leaves half a blob in its place."""
        doomed = self.staging / f"freed-{uuid.uuid4().hex}"
        with self.lock, suppress(FileNotFoundError):
            self.path(digest).rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def collect(self, referenced: Iterable[str]) -> list[str]:
        """At start: wipe staging and free every blob that no revision names. Returns the freed digests."""
        for leftover in self.staging.iterdir():
            _remove(leftover)
        kept = set(referenced)
        orphans = [folder.name for folder in self.root.iterdir() if folder.name not in kept]
        for digest in orphans:
            self.free(digest)
        return sorted(orphans)


def content_digest(files: Iterable[Path]) -> str:
    """SHA-256 over each file's name, length and SHA-256, in the order of their names."""
    total = hashlib.sha256()
    for file in sorted(files, key=lambda path: path.name):
        inner = hashlib.sha256()
        for chunk in _chunks(file):
            inner.update(chunk)
        total.update(f"{file.name}\0{file.stat().st_size}\0{inner.hexdigest()}\n".encode())
    return total.hexdigest()


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
