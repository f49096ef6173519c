"""Model files by content: `blobs/sha256/<digest>/`, immutable, published by one rename."""

import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import RLock

DERIVED = "."
_CHUNK = 1 << 20
_DIGEST = re.compile("[0-9a-f]{64}")


def blobs_root(data_dir: Path) -> Path:
    return data_dir / "blobs" / "sha256"


class Blobs:
    """Hold `lock` from publishing (or freeing) until the rows that say so are committed."""

    def __init__(self, data_dir: Path) -> None:
        self.root = blobs_root(data_dir)
        self.staging = data_dir / "staging"
        self.trash = data_dir / "trash"
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
        """Wipe staging, at start, and set aside every blob that no revision names. Returns their digests.

        Nothing that was published is deleted: the database may be an older one, or another.
        """
        for leftover in self.staging.iterdir():
            _remove(leftover)
        orphans = digests_in(self.root) - set(referenced)
        return sorted(digest for digest in orphans if self._move(self.path(digest), self.trash / digest))

    def take_back(self, referenced: Iterable[str]) -> list[str]:
        """Take back what was set aside and is named again. Returns the digests."""
        wanted = set(referenced) - digests_in(self.root)
        return sorted(digest for digest in wanted if self._move(self.trash / digest, self.path(digest)))

    def empty_trash(self, keep_s: float) -> list[str]:
        """Delete what was set aside longer ago than that, by whomever. Returns the names."""
        before = time.time() - keep_s
        kept = list(self.trash.iterdir()) if self.trash.is_dir() else []
        old = [entry for entry in kept if entry.lstat().st_mtime < before]
        for entry in old:
            _remove(entry)
        return sorted(entry.name for entry in old)

    def _move(self, source: Path, target: Path) -> bool:
        """Move a blob and set its time to now. False when there is nothing to move."""
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():  # the same content was set aside before
                _remove(target)
            source.rename(target)
            os.utime(target)
        except FileNotFoundError:
            return False
        return True


def digests_in(folder: Path) -> set[str]:
    """Return the digests of the contents that lie there; whatever else does is not ours."""
    try:
        return {entry.name for entry in folder.iterdir() if _DIGEST.fullmatch(entry.name)}
    except FileNotFoundError:
        return set()


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
