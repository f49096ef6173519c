"""Packs a base model's tensors, several at a time."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from loradock.checkpoints.architecture import Architecture
from loradock.engine.kernels.memory import Array, aligned, padded
from loradock.engine.kernels.structures import PANEL, Format
from loradock.engine.kernels.weight_packing import Rows, pack
from loradock.engine.models.packed_layout import Layout, Section, WeightPlace, lay_out
from loradock.engine.models.packed_model import PackedModel
from loradock.engine.models.weights import TensorReader, in_bfloat16, in_floats, shape_of
from loradock.machine.share import usable_processors
from loradock.types.errors import BadRequest

log = logging.getLogger(__name__)
_EVERY_S = 2.0


class Unpackable(ValueError):
    """A weight cannot be kept in 12 bits a number: too many differ from the others in size."""


def packed(a: Architecture, read: TensorReader, format_: Format) -> PackedModel:
    """Pack in memory. Raises BadRequest for tensors of other shapes than the configuration says."""
    try:
        layout = lay_out(a, format_)
        return fill(layout, a, read, aligned(layout.size, np.uint8))
    except Unpackable:
        layout = lay_out(a, Format.BFLOAT16)
        return fill(layout, a, read, aligned(layout.size, np.uint8))


class Progress:
    """Logs how far packing is, now and then."""

    def __init__(self, layout: Layout) -> None:
        self._all = sum(place.numbers.size for place in layout.weights())
        self._done = 0
        self._said = time.monotonic()

    def add(self, place: WeightPlace) -> None:
        """Note that a weight is packed; called by one thread."""
        self._done += place.numbers.size
        if time.monotonic() - self._said > _EVERY_S:
            self._said = time.monotonic()
            log.info("packing the model: %d of %d MiB", self._done >> 20, self._all >> 20)


def fill(
    layout: Layout, a: Architecture, read: TensorReader, content: Array, progress: Progress | None = None
) -> PackedModel:
    """Pack into `content` uint8 `[layout.size]`. Raises BadRequest, and Unpackable."""
    model = PackedModel(layout, content)
    packer = _Packer(model, a, read)
    packer.vectors()
    with ThreadPoolExecutor(usable_processors(), "pack") as threads:
        for place in threads.map(packer.weight, layout.weights()):
            if progress:
                progress.add(place)
    return model


class _Packer:
    def __init__(self, model: PackedModel, a: Architecture, read: TensorReader) -> None:
        self._model = model
        self._architecture = a
        self._read = read
        self._counts = model.bytes_of(model.layout.counts).view(np.int64)
        self._counts[:] = 0

    def vectors(self) -> None:
        """Norms, and the embedding where the head does not serve as such."""
        a, layout = self._architecture, self._model.layout
        for norms in layout.norms:
            for name, section in norms:
                self._put(section, in_floats(self._tensor(name, section.size // 4)))
        name, section = layout.last_norm
        self._put(section, in_floats(self._tensor(name, a.hidden_size)))
        if layout.embedding:
            name, section = layout.embedding
            values = self._tensor(name, a.vocab_size, a.hidden_size)
            self._put(section, in_floats(values) if layout.format is Format.FLOAT32 else in_bfloat16(values))

    def weight(self, place: WeightPlace) -> WeightPlace:
        """Pack one weight: its tensors fill panels one after the other."""
        content = self._model.bytes_of
        numbers, scales = content(place.numbers), content(place.scales)
        rare = content(place.rare).view(np.int32).reshape(-1, 3)
        found = panel = 0
        for name, rows in place.tensors:
            tensor = self._tensor(name, rows, place.columns)
            found += pack(tensor, place.format, numbers, scales, rare[found:], first=panel)
            panel += padded(rows, PANEL) // PANEL
            if found > len(rare):
                raise Unpackable(f"{found} of {place.outputs * place.inputs} weights differ too much from the others")
        self._counts[place.number] = found
        if place.biases:
            bias = content(place.bias).view(np.float32)
            bias[:] = 0
            at = 0
            for name, size in place.biases:
                bias[at : at + size] = in_floats(self._tensor(name, size))
                at += size
        return place

    def _tensor(self, name: str, *shape: int) -> Rows:
        """The kernels work on addresses: nothing may be smaller than the configuration says, or larger."""
        tensor = self._read(name)
        if shape_of(tensor) != shape:
            found = list(shape_of(tensor))
            raise BadRequest(f"the base model's {name} has shape {found}, its configuration {list(shape)}")
        return tensor

    def _put(self, section: Section, values: Array) -> None:
        self._model.bytes_of(section).view(values.dtype)[:] = values.reshape(-1)
