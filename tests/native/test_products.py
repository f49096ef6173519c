"""Products of all formats against NumPy, and rows to the last bit against themselves."""

import ctypes
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loradock.engine.kernels import structures as c
from loradock.engine.kernels.memory import padded
from loradock.engine.kernels.structures import GROUP, PANEL, Format
from loradock.engine.kernels.weight_packing import pack, panel_bytes
from tests.native import numbers as plain

fuzzed = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**32 - 1)
MOST = c.UNPACKED
COLUMNS = st.one_of(st.integers(1, 300), st.sampled_from([MOST - 32, MOST, MOST + 1, 2 * MOST + 50]))
UNTOUCHED = np.float32(77)


@dataclass
class Case:
    """`packed` refers to the arrays beside it; `weight` is what they say, float64 `[outputs, inputs]`."""

    packed: c.Weight
    weight: np.ndarray
    bias: np.ndarray | None
    kept: tuple


def case(dice, format_, outputs, columns, biased):
    """With a few weights that a coded weight cannot number."""
    columns = padded(columns, GROUP) if format_ <= Format.INT8 else columns
    source = (dice.standard_normal((outputs, columns)) * 0.05).astype(np.float32)
    source[dice.random(source.shape) < 0.0005] *= 1e-6
    wide, inputs = padded(outputs, PANEL), padded(columns, GROUP)
    lines, beside = panel_bytes(columns, format_)
    numbers, scales = np.zeros(wide // PANEL * lines, np.uint8), np.zeros(wide // PANEL * beside, np.uint8)
    rare = np.zeros((source.size, 3), np.int32)
    count = pack(source, format_, numbers, scales, rare)
    bias = dice.standard_normal(wide).astype(np.float32) if biased else None
    packed = c.Weight(
        numbers=numbers.ctypes.data,
        scales=scales.ctypes.data,
        bias=None if bias is None else bias.ctypes.data,
        rare=rare.ctypes.data,
        rares=count,
        format=format_,
        outputs=wide,
        inputs=inputs,
    )
    weight = plain.unpacked(format_, numbers, scales, rare[:count], inputs)
    return Case(packed, weight, bias, (numbers, scales, rare, bias))


def prepared(table, format_, rows, inputs):
    """Room for rows, of the size that is needed and no more."""
    sizes = (
        inputs * (4 if format_ is Format.FLOAT32 else 2),
        inputs * table.tiled_bytes(format_),
        2 * 4 * (inputs // GROUP),
    )
    arrays = [np.zeros((max(1, rows), size), np.uint8) for size in sizes]
    unpacked = np.zeros(2 * PANEL * c.UNPACKED * 2, np.uint8)
    addresses = [part for array, size in zip(arrays, sizes, strict=True) for part in (array.ctypes.data, size)]
    return c.Inputs(*addresses, unpacked.ctypes.data), (arrays, unpacked)


def product(table, case, x, *, before=None, panels=None, slack=3):
    """`before`: what the product is added to. The columns behind the last one stay as they are."""
    weight, rows = case.packed, len(x)
    inputs, _kept = prepared(table, Format(weight.format), rows, weight.inputs)
    first, end = panels or (0, weight.outputs // PANEL)
    out = np.full((rows, (end - first) * PANEL + slack), UNTOUCHED)
    if before is not None:
        out[:, : (end - first) * PANEL] = before[:, first * PANEL : end * PANEL]
    x = np.ascontiguousarray(x)
    table.product(
        ctypes.byref(weight), ctypes.byref(inputs), x.ctypes.data, rows, out.ctypes.data, out.strides[0],
        before is not None, first, end,
    )  # fmt: skip
    assert (out[:, (end - first) * PANEL :] == UNTOUCHED).all()
    return out[:, : (end - first) * PANEL]


def as_read(x, format_):
    """Rows as the product reads them, float64; and how far one of its numbers may be rounded to the other side."""
    if format_ > Format.INT8:
        return (x if format_ is Format.FLOAT32 else plain.rounded(x)).astype(np.float64), 0.0
    groups = x.reshape(len(x), -1, GROUP).astype(np.float64)
    largest = np.abs(groups).max(axis=2, keepdims=True)
    steps = np.rint(groups * 127 / np.where(largest > 0, largest, 1))
    return (steps * largest / 127).reshape(x.shape), np.abs(x).max(axis=1, keepdims=True) / 127


def rows_of(dice, case, count, columns):
    x = np.zeros((count, case.packed.inputs), np.float32)
    x[:, :columns] = dice.standard_normal((count, columns)) * np.exp2(dice.integers(-8, 8, (count, 1)))
    return x


@fuzzed
@given(st.sampled_from(Format), st.integers(1, 100), COLUMNS, st.integers(1, 40), st.booleans(), st.booleans(), seeds)
def test_every_format_is_multiplied_as_numpy_does(table, format_, outputs, columns, rows, biased, adds, seed):
    dice = np.random.default_rng(seed)
    given = case(dice, format_, outputs, columns, biased)
    x = rows_of(dice, given, rows, columns)
    before = dice.standard_normal((rows, given.packed.outputs)).astype(np.float32) if adds else None
    found = product(table, given, x, before=before)
    read, step = as_read(x, format_)
    wanted = read @ given.weight.T
    extra = (0 if given.bias is None else given.bias) + (0 if before is None else before)
    sizes = np.abs(read) @ np.abs(given.weight.T) + np.abs(extra)
    # Sums in another order; of bytes also one number that is rounded to the other side.
    allowed = 2.5e-7 * np.sqrt(x.shape[1]) * sizes + step * np.abs(given.weight).max(initial=0)
    assert (np.abs(found - (wanted + extra)) <= allowed).all()


@fuzzed
@given(st.sampled_from(Format), st.integers(1, 70), COLUMNS, st.integers(2, 40), st.booleans(), seeds)
def test_a_row_is_the_same_whoever_goes_with_it(table, format_, outputs, columns, rows, adds, seed):
    dice = np.random.default_rng(seed)
    given = case(dice, format_, outputs, columns, biased=True)
    x = rows_of(dice, given, rows, columns)
    before = dice.standard_normal((rows, given.packed.outputs)).astype(np.float32) if adds else None
    together = product(table, given, x, before=before)
    cut = int(dice.integers(1, rows))
    for low, high in [(0, cut), (cut, rows), *((i, i + 1) for i in range(rows))]:
        part = product(table, given, x[low:high], before=before[low:high] if adds else None)
        assert part.tobytes() == together[low:high].tobytes()


@fuzzed
@given(st.sampled_from(Format), st.integers(2, 9), COLUMNS, st.integers(1, 40), seeds)
def test_panels_are_the_same_in_any_parts(table, format_, panels, columns, rows, seed):
    dice = np.random.default_rng(seed)
    given = case(dice, format_, panels * PANEL - 5, columns, biased=True)
    x = rows_of(dice, given, rows, columns)
    whole = product(table, given, x)
    cut = int(dice.integers(1, panels))
    parts = [product(table, given, x, panels=part) for part in ((0, cut), (cut, panels))]
    assert np.concatenate(parts, axis=1).tobytes() == whole.tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rows", [1, 5, 40])
@pytest.mark.parametrize("format_", Format)
def test_what_is_not_finite_spoils_its_row_alone(table, format_, rows, value):
    dice = np.random.default_rng(0)
    given = case(dice, format_, 48, 96, biased=False)
    x = rows_of(dice, given, rows, 96)
    spoilt = x.copy()
    spoilt[rows // 2, 70] = value
    found, wanted = product(table, given, spoilt), product(table, given, x)
    assert not np.isfinite(found[rows // 2]).any()
    others = np.arange(rows) != rows // 2
    assert found[others].tobytes() == wanted[others].tobytes()
