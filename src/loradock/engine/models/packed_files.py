"""Base models packed once and mapped ever after: every start, and every engine on the machine, shares the same pages.

The file is known by what the checkpoint holds, by the form of its weights and by the layout's version. It is written
under another name and gets its own once it is whole.
"""

import fcntl
import json
import logging
import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import numpy as np

from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.packed_cache import cache_folder, file_of, make_room
from loradock.engine.kernels.structures import Format
from loradock.engine.models import packing
from loradock.engine.models.packed_layout import VERSION, Layout, lay_out
from loradock.engine.models.packed_model import PackedModel
from loradock.engine.models.weights import TensorReader
from loradock.engine.runtime.mapping import mapped

log = logging.getLogger(__name__)
PAGE = 4096
"""The first bytes of a file say what it is; the numbers begin behind them."""
_WORTH_IT = 16 * 2**20
"""Smaller models are packed at every start: that takes no time."""
_SAMPLES, _SAMPLE = 64, 4096


def packed_model(path: Path, a: Architecture, read: TensorReader, format_: Format) -> PackedModel:
    """The model of a checkpoint, mapped where it was packed before; in memory where there is no room for a file.

    Raises BadRequest for tensors of other shapes than the configuration says.
    """
    if lay_out(a, format_).size < _WORTH_IT:
        return packing.packed(a, read, format_)
    name = f"{path.stem}-{format_.name.lower()}-{_digest(path, a)}"
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        with (cache_folder() / f"{name}.lock").open("w") as lock:
            # Of engines that start at once one packs.
            fcntl.flock(lock, fcntl.LOCK_EX)
            return _found(name, a, format_) or _made(name, a, read, format_)
    except OSError as error:
        log.warning("the packed model is not kept for the next start: %s", error.strerror or error)
        return packing.packed(a, read, format_)


def _found(name: str, a: Architecture, format_: Format) -> PackedModel | None:
    file = file_of(name)
    if not file.is_file():
        return None
    for layout in _layouts(a, format_):
        size = PAGE + layout.size
        if file.stat().st_size != size:
            continue
        content = mapped(file, size)
        if content[:PAGE].tobytes() == _page(name, layout):
            os.utime(file)
            return PackedModel(layout, content[PAGE:])
    file.unlink()  # of another version, or damaged
    return None


def _made(name: str, a: Architecture, read: TensorReader, format_: Format) -> PackedModel:
    for layout in _layouts(a, format_):
        if not make_room(PAGE + layout.size):
            raise OSError(f"no room for {layout.size >> 20} MiB in {cache_folder().name}")
        partial = file_of(name).with_suffix(".partial")
        try:
            log.info("packing the model for this and all later starts: %d MiB", layout.size >> 20)
            content = np.memmap(partial, np.uint8, "w+", shape=(PAGE + layout.size,))
            packing.fill(layout, a, read, content[PAGE:].view(np.ndarray), packing.Progress(layout))
            content[:PAGE] = np.frombuffer(_page(name, layout), np.uint8)
            content.flush()
            partial.rename(file_of(name))
            return PackedModel(layout, mapped(file_of(name), content.size)[PAGE:])
        except packing.Unpackable as reason:
            log.info("%s: kept in 16 bits", reason)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
    raise AssertionError("bfloat16 can always be packed")


def _layouts(a: Architecture, format_: Format) -> tuple[Layout, ...]:
    """Coded weights that are too different in size are kept in 16 bits."""
    if format_ is Format.CODED:
        return lay_out(a, format_), lay_out(a, Format.BFLOAT16)
    return (lay_out(a, format_),)


def _page(name: str, layout: Layout) -> bytes:
    facts = {"version": VERSION, "name": name, "format": layout.format.name, "size": layout.size}
    return json.dumps(facts).encode().ljust(PAGE)


def _digest(path: Path, a: Architecture) -> str:
    """Of a checkpoint: its shape, and of each file the size, the time it was changed and some of the content."""
    digest = blake2b(repr((VERSION, a)).encode(), digest_size=16)
    files = [path] if path.is_file() else sorted([*path.glob("*.safetensors"), *path.glob("*.json")])
    for file in files:
        facts = file.stat()
        digest.update(repr((file.name, facts.st_size, facts.st_mtime_ns)).encode())
        with file.open("rb") as content:
            for place in range(0, facts.st_size, max(_SAMPLE, facts.st_size // _SAMPLES)):
                content.seek(place)
                digest.update(content.read(_SAMPLE))
    return digest.hexdigest()
