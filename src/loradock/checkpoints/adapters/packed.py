"""An adapter as the engine's kernels read it, kept beside its files, so that attaching it is mapping a file.

A page of JSON says what it was made of. Then come, as bfloat16, the layers, in each the projections in the order of
GROUPS, and of a projection `rank` rows: a row of A and the same row of B^T times the scaling. Whoever finds something
else than expected reads the adapter itself: nothing depends on this file but time.
"""

import hashlib
import json
import uuid
from pathlib import Path

import numpy as np

from loradock.checkpoints.adapters.adapter import WEIGHTS_FILE
from loradock.checkpoints.adapters.inspection import AdapterFiles, AdapterReport, read_files, understand, without_tables
from loradock.checkpoints.adapters.lora_pairs import LoraPair
from loradock.checkpoints.numbers import Array, as_float32
from loradock.checkpoints.safetensors_header import TensorInfo, parse_header

PACKED_FILE = ".packed-bfloat16"
PAGE = 4096
"""The offset where the numbers begin: a file is mapped by whole pages."""
GROUPS = {
    "qkv": ("q_proj", "k_proj", "v_proj"),
    "o": ("o_proj",),
    "gate_up": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
}
"""Projections that share an input."""
_FORMAT = 1


def write_packed(folder: Path) -> None:
    """Write the packed form of an adapter that was accepted. Raises AdapterRefused when it was not, and OSError; then
    nothing is left."""
    draft = folder / f"{PACKED_FILE}-{uuid.uuid4().hex}"
    try:
        _write(folder, draft)
        draft.chmod(0o444)
        draft.rename(folder / PACKED_FILE)
    finally:
        draft.unlink(missing_ok=True)


def first_page(folder: Path, files: AdapterFiles) -> bytes:
    """Return the first page of the packed form of these very files. It differs when they do: weights of the same size
    and shapes have another time."""
    made_of = hashlib.sha256(files.config + b"\0" + files.header.text).hexdigest()
    weights = (folder / WEIGHTS_FILE).stat()
    facts = {"format": _FORMAT, "made_of": made_of, "size": weights.st_size, "changed": weights.st_mtime_ns}
    return json.dumps(facts).encode().ljust(PAGE)


def is_packed(folder: Path) -> bool:
    """Raises AdapterRefused and OSError where there is no adapter."""
    packed = folder / PACKED_FILE
    if not packed.is_file():
        return False
    with packed.open("rb") as file:
        return file.read(PAGE) == first_page(folder, read_files(folder))


def _write(folder: Path, path: Path) -> None:
    files = read_files(folder)
    report, tensors = without_tables(understand(files, None)), parse_header(files.header)
    data = np.memmap(folder / WEIGHTS_FILE, np.uint8, "r")
    with path.open("wb") as file:
        file.write(first_page(folder, files))
        for pair in in_order(report):
            down, up = (_numbers(data, tensors[name]) for name in (pair.a, pair.b))
            scaled = up.T * np.float32(pair.scaling)
            file.write(np.concatenate([_narrow(down), _narrow(scaled)], axis=1).tobytes())


def in_order(report: AdapterReport) -> list[LoraPair]:
    """The pairs as a step reads them."""
    places = {module: place for place, module in enumerate(m for modules in GROUPS.values() for m in modules)}
    return sorted(report.pairs, key=lambda pair: (pair.layer, places[pair.module]))


def _numbers(data: Array, tensor: TensorInfo) -> Array:
    """A tensor as float32."""
    return as_float32(data[tensor.start : tensor.end], tensor.dtype).reshape(tensor.shape)


def _narrow(values: Array) -> Array:
    """Finite float32 as the nearest bfloat16 (of two that are as near the even one), in uint16."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)
