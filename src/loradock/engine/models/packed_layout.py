"""Where everything of a packed base model lies: one run of bytes, the same for every start."""

from collections.abc import Iterator
from dataclasses import dataclass

from loradock.checkpoints.architecture import Architecture
from loradock.engine.kernels.memory import padded, whole_lines
from loradock.engine.kernels.structures import GROUP, LINE, PANEL, Format

HEAD_FORMAT = Format.INT8
"""The head of a model in few bits: in 4 bits the head alone would cost most of the accuracy."""
VERSION = 1
"""The version of this layout and of the panels in it."""

_SCALES = {Format.INT8: 2, Format.INT4: 4}
"""Bytes of scales (and offsets) that a group of an output has."""


@dataclass(frozen=True, slots=True)
class Section:
    """Bytes `start` to `start + size`."""

    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class WeightPlace:
    """A weight in panels, made of tensors `[rows, columns]` that stand on top of each other (q, k, v; gate, up).

    `number`: its place among all weights. `tensors`: their names and numbers of rows. `biases`: the same of its bias,
    none or as many.
    """

    tensors: tuple[tuple[str, int], ...]
    columns: int
    number: int
    format: Format
    numbers: Section
    scales: Section
    rare: Section
    bias: Section
    biases: tuple[tuple[str, int], ...] = ()

    @property
    def outputs(self) -> int:
        return padded(sum(rows for _, rows in self.tensors), PANEL)

    @property
    def inputs(self) -> int:
        return padded(self.columns, GROUP)


@dataclass(frozen=True, slots=True)
class Layout:
    """All of a model. `layers[n]` are the products in the kernels' order; `norms[n]` names of float32 vectors."""

    format: Format
    head: WeightPlace
    layers: tuple[tuple[WeightPlace, ...], ...]
    norms: tuple[tuple[tuple[str, Section], ...], ...]
    last_norm: tuple[str, Section]
    embedding: tuple[str, Section] | None
    counts: Section
    """Int64 `[weights]`: how many rare weights each has."""
    size: int

    @property
    def head_format(self) -> Format:
        return self.head.format

    def weights(self) -> Iterator[WeightPlace]:
        yield self.head
        for layer in self.layers:
            yield from layer


def fits(a: Architecture, format_: Format) -> bool:
    """Whether the kernels can compute the model: widths are whole vectors, and in few bits whole groups."""
    inputs = (a.hidden_size, a.intermediate_size, a.heads * a.head_dim)
    whole = all(n % PANEL == 0 for n in (*inputs, a.head_dim))
    return whole and (format_ > Format.INT8 or all(n % GROUP == 0 for n in inputs))


def lay_out(a: Architecture, format_: Format) -> Layout:
    """`format_`: of the layers' weights; those in few bits have a head of 8."""
    room = _Room(format_)
    head_format = format_ if format_ > Format.INT8 else HEAD_FORMAT
    head_name = "model.embed_tokens.weight" if a.tie_embeddings else "lm_head.weight"
    head = room.weight(((head_name, a.vocab_size),), a.hidden_size, head_format)
    layers = tuple(tuple(_products(a, room, n)) for n in range(a.layers))
    norms = tuple(tuple(_norms(a, room, n)) for n in range(a.layers))
    last = "model.norm.weight", room.take(4 * a.hidden_size)
    embedding = None
    if not a.tie_embeddings:
        size = a.vocab_size * a.hidden_size * (4 if format_ is Format.FLOAT32 else 2)
        embedding = "model.embed_tokens.weight", room.take(size)
    counts = room.take(8 * (1 + 4 * a.layers))
    return Layout(format_, head, layers, norms, last, embedding, counts, room.used)


def _products(a: Architecture, room: "_Room", layer: int) -> Iterator[WeightPlace]:
    linears = a.linears()

    def named(kind: str, *names: str) -> tuple[tuple[str, int], ...]:
        return tuple((f"{a.module_path(layer, f'{name}_proj')}.{kind}", linears[f"{name}_proj"][0]) for name in names)

    yield room.weight(named("weight", *"qkv"), a.hidden_size, biases=named("bias", *"qkv") if a.qkv_bias else ())
    deep = a.heads * a.head_dim
    yield room.weight(named("weight", "o"), deep, biases=named("bias", "o") if a.output_bias else ())
    yield room.weight(named("weight", "gate", "up"), a.hidden_size)
    yield room.weight(named("weight", "down"), a.intermediate_size)


def _norms(a: Architecture, room: "_Room", layer: int) -> Iterator[tuple[str, Section]]:
    prefix = f"model.layers.{layer}."
    for name in ("input_layernorm", "post_attention_layernorm"):
        yield f"{prefix}{name}.weight", room.take(4 * a.hidden_size)
    for name in ("q_norm", "k_norm") if a.qk_norm else ():
        yield f"{prefix}self_attn.{name}.weight", room.take(4 * a.head_dim)


class _Room:
    """Hands out bytes one after the other, each beginning a line."""

    def __init__(self, format_: Format) -> None:
        self._format = format_
        self._weights = 0
        self.used = 0

    def take(self, size: int) -> Section:
        section = Section(self.used, size)
        self.used += whole_lines(size)
        return section

    def weight(
        self,
        tensors: tuple[tuple[str, int], ...],
        columns: int,
        format_: Format | None = None,
        biases: tuple[tuple[str, int], ...] = (),
    ) -> WeightPlace:
        chosen = format_ or self._format
        outputs, inputs = padded(sum(rows for _, rows in tensors), PANEL), padded(columns, GROUP)
        numbers = self.take(outputs * inputs * chosen // 8)
        per_output = inputs // GROUP * _SCALES.get(chosen, 0)
        scales = self.take(outputs if chosen is Format.CODED else outputs * per_output)
        rare = self.take(12 * (outputs * inputs // 500 + LINE) if chosen is Format.CODED else 0)
        bias = self.take(4 * outputs if biases else 0)
        number = self._weights
        self._weights += 1
        return WeightPlace(tensors, columns, number, chosen, numbers, scales, rare, bias, biases)
