"""The decoder on a CPU: weights packed for the tiles, and steps that run compiled from the embedding to the logits."""

import ctypes

import numpy as np

from loradock.checkpoints.architecture import Architecture
from loradock.engine.dtypes import Dtype
from loradock.engine.kernels import structures as c
from loradock.engine.kernels.library import kernels
from loradock.engine.kernels.memory import Array, aligned, padded, whole_lines
from loradock.engine.kernels.structures import Format
from loradock.engine.models.packed_layout import Layout, WeightPlace
from loradock.engine.models.packed_model import PackedModel
from loradock.engine.models.rotary import Rotary


class NativeDecoder:
    """A base model in memory; `packed` may be shared with other processes."""

    kernels = True
    device = "cpu"

    def __init__(self, architecture: Architecture, packed: PackedModel) -> None:
        a, layout = architecture, packed.layout
        self.architecture = architecture
        self.packed = packed
        self.dtype = Dtype.FLOAT32 if layout.format is Format.FLOAT32 else Dtype.BFLOAT16
        self.rotary = Rotary(a)
        self._products = (c.Weight * (4 * a.layers))(*(self._weight(w) for layer in layout.layers for w in layer))
        self._norms = (c.Norms * a.layers)(*(self._norms_of(layout, n) for n in range(a.layers)))
        self._head = self._weight(layout.head)
        embedding = packed.address(layout.embedding[1]) if layout.embedding else None
        self.plan = c.Model(
            layers=a.layers,
            hidden=a.hidden_size,
            inner=a.intermediate_size,
            vocabulary=a.vocab_size,
            heads=a.heads,
            kv_heads=a.kv_heads,
            dim=a.head_dim,
            window=a.sliding_window or 0,
            eps=a.norm_eps,
            products=self._products,
            norms=self._norms,
            last_norm=packed.address(layout.last_norm[1]),
            head=ctypes.pointer(self._head),
            embedding=embedding,
        )

    @property
    def format(self) -> Format:
        """The form in which the layers' weights are kept."""
        return self.packed.layout.format

    def scratch(self, members: int) -> "list[Scratch]":
        """Room for one lane, as each of its members sees it."""
        shared = _Shared(self.architecture, self.packed.layout, members)
        return [Scratch(self.architecture, shared) for _ in range(members)]

    def _weight(self, place: WeightPlace) -> c.Weight:
        packed = self.packed
        return c.Weight(
            numbers=packed.address(place.numbers),
            scales=packed.address(place.scales),
            bias=packed.address(place.bias) if place.biases else None,
            rare=packed.address(place.rare),
            rares=packed.rares(place),
            format=place.format,
            outputs=place.outputs,
            inputs=place.inputs,
        )

    def _norms_of(self, layout: Layout, layer: int) -> c.Norms:
        found = [self.packed.address(section) for _, section in layout.norms[layer]]
        return c.Norms(*found)


class _Shared:
    """What the members of a team share of a lane's room."""

    def __init__(self, a: Architecture, layout: Layout, members: int) -> None:
        rows, formats = c.CHUNK, (layout.format, layout.head_format)
        deep = padded(max(a.hidden_size, a.heads * a.head_dim, a.intermediate_size), c.GROUP)
        each = 4 if layout.format is Format.FLOAT32 else 2
        tiled = max(kernels().tiled_bytes(format_) for format_ in formats)
        self.steps = [whole_lines(size) for size in (each * deep, tiled * deep, 2 * (deep // c.GROUP) * 4)]
        self.inputs = [aligned(rows * step, np.uint8) for step in self.steps]
        wide = max(2 * a.intermediate_size, (a.heads + 2 * a.kv_heads) * a.head_dim)
        self.wide = aligned((rows, padded(wide, c.PANEL)), np.float32)
        self.tops = aligned((members, rows, 2), np.float32)
        self.places = aligned((members, rows), np.int64)


class Scratch:
    """A member's view of a lane's room."""

    def __init__(self, a: Architecture, shared: _Shared) -> None:
        deep = padded(max(a.hidden_size, a.heads * a.head_dim, a.intermediate_size), c.GROUP)
        self._shared = shared
        self._unpacked = aligned(2 * c.UNPACKED * c.PANEL * 2, np.uint8)
        self._row = aligned(deep, np.float32)
        self._seen = aligned((c.CHUNK, c.SHARE), np.float32)
        self._attention = aligned(kernels().attention_room(a.heads, a.kv_heads, a.head_dim), np.uint8)
        self._sums = aligned((c.CHUNK, 0), np.float32)
        addresses = [n for room, step in zip(shared.inputs, shared.steps, strict=True) for n in (_at(room), step)]
        self.view = c.Scratch(
            inputs=c.Inputs(*addresses, _at(self._unpacked)),
            wide=_at(shared.wide),
            wide_step=shared.wide.shape[1],
            tops=_at(shared.tops),
            places=_at(shared.places),
            row=_at(self._row),
            seen=_at(self._seen),
            attention=_at(self._attention),
        )

    def use_sums(self, sums: Array) -> None:
        """`sums` float32 `[CHUNK, ranks]`, the team's: what adapters' first products give."""
        self._sums = sums
        self.view.sums = _at(sums)
        self.view.sums_step = sums.shape[1]


def _at(array: Array) -> int:
    return array.ctypes.data
