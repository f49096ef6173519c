"""What adapters add to a product, and how they are packed."""

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loradock.engine.kernels import structures as c
from loradock.engine.kernels.adapter_packing import KINDS, finite, pack
from tests.native import numbers as plain

fuzzed = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**32 - 1)
TYPES = (np.float16, np.uint16, np.float32)
"""NumPy's, in the order of KINDS."""


def in_type(values, dtype):
    return plain.bits_of(values) if dtype is np.uint16 else values.astype(dtype)


def in_floats(values):
    return plain.floats_of(values) if values.dtype == np.uint16 else values.astype(np.float32)


class Adapters:
    """Random ones: `rows[adapter][module]` is A and B^T, `[rank, inputs + columns]`."""

    def __init__(self, dice, floats, count, inputs, widths):
        self.floats, self.inputs = floats, inputs
        self.rows, table, high = [], np.zeros((count, len(widths), c.MODULE), np.int64), np.cumsum(widths)
        for adapter in range(count):
            self.rows.append([])
            for module, width in enumerate(widths):
                rank = int(dice.choice([0, 1, 3, 4, 8, 11, 16]))
                values = dice.standard_normal((rank, inputs + width)) * 0.1
                rows = in_type(values.astype(np.float32), np.float32 if floats else np.uint16)
                self.rows[-1].append(rows)
                table[adapter, module] = rows.ctypes.data, rank, high[module] - width, high[module]
        self.table, self.width = table, int(high[-1])
        self.ranks = int(table[:, :, 1].sum(axis=1).max(initial=0))

    def add(self, kernels, x, owners, before, low, high):
        """`x`: float32 `[rows, inputs]`. Returns `before` with columns `low` to `high` added to."""
        width = -(-self.inputs // 32) * 32
        rows = np.zeros((len(x), width), np.float32 if self.floats else np.uint16)
        rows[:, : self.inputs] = in_type(x, rows.dtype.type)
        inputs = c.Inputs(rows=rows.ctypes.data, rows_step=rows.strides[0])
        sums, out = np.zeros((len(x), max(1, self.ranks)), np.float32), before.copy()
        kernels.adapt(
            self.table.ctypes.data, self.table.shape[1], owners.ctypes.data, self.floats, ctypes.byref(inputs),
            self.inputs, len(x), sums.ctypes.data, sums.shape[1], out.ctypes.data, out.strides[0], low, high,
        )  # fmt: skip
        return out

    def wanted(self, x, owners):
        """What is added, float64, and the sizes of what is summed up."""
        x = (x if self.floats else plain.rounded(x)).astype(np.float64)
        total, sizes = np.zeros((len(x), self.width)), np.zeros((len(x), self.width))
        for i, owner in enumerate(owners):
            for rows, (_, _, low, high) in zip(self.rows[owner], self.table[owner], strict=True) if owner >= 0 else ():
                both = in_floats(rows).astype(np.float64)
                a, b = both[:, : self.inputs], both[:, self.inputs :]
                total[i, low:high] = x[i] @ a.T @ b
                sizes[i, low:high] = np.abs(x[i]) @ np.abs(a.T) @ np.abs(b)
        return total, sizes


widths = st.lists(st.integers(1, 12).map(lambda n: 16 * n), min_size=1, max_size=3)


@fuzzed
@given(st.booleans(), st.integers(1, 4), st.integers(1, 12), widths, st.integers(1, 40), seeds)
def test_every_row_gets_its_own_adapter(table, floats, count, sixteens, widths, rows, seed):
    dice = np.random.default_rng(seed)
    adapters = Adapters(dice, floats, count, 16 * sixteens, widths)
    x = dice.standard_normal((rows, adapters.inputs)).astype(np.float32)
    owners = np.sort(dice.integers(-1, count, rows)) if dice.random() < 0.5 else dice.integers(-1, count, rows)
    before = dice.standard_normal((rows, adapters.width)).astype(np.float32)
    low, high = sorted(16 * dice.integers(0, adapters.width // 16 + 1, 2))
    found = adapters.add(table, x, owners, before, low, high)
    added, sizes = adapters.wanted(x, owners)
    assert (np.abs(found - before - added) <= 1e-5 * (sizes + np.abs(before)))[:, low:high].all()
    assert (found[:, :low] == before[:, :low]).all()
    assert (found[:, high:] == before[:, high:]).all()
    for i in range(rows):
        one = slice(i, i + 1)
        alone = adapters.add(table, x[one], owners[one].copy(), before[one], 0, adapters.width)
        assert alone[:, low:high].tobytes() == found[one, low:high].tobytes()


class File:
    """Pairs of random tensors of mixed kinds, anywhere in a file."""

    def __init__(self, dice, pairs):
        self.content = bytearray(dice.bytes(dice.integers(9)))
        self.moves, self.scales, self.pairs, at = [], [], [], 0
        for _ in range(pairs):
            rank, inputs, outputs = (int(n) for n in dice.integers(1, (40, 70, 150)))
            tensors = []
            for shape in ((rank, inputs), (outputs, rank)):
                kind = int(dice.integers(len(TYPES)))
                values = dice.standard_normal(shape) * np.exp2(dice.integers(-20, 4))
                tensors.append((len(self.content), kind, in_type(values.astype(np.float32), TYPES[kind])))
                self.content += tensors[-1][2].tobytes() + dice.bytes(dice.integers(5))
            (a, a_kind, down), (b, b_kind, up) = tensors
            self.moves.append((a, a_kind, b, b_kind, rank, inputs, outputs, at))
            self.scales.append(np.float32(dice.uniform(0.1, 4)))
            self.pairs.append((down, up))
            at += rank * (inputs + outputs)
        self.size = at

    def packed(self, dtype, change=lambda content: None):
        content = np.frombuffer(bytes(self.content), np.uint8).copy()
        change(content)
        packed = np.zeros(self.size, dtype)
        moves = np.array(self.moves, np.int64).reshape(-1, c.MOVE)
        return packed, pack(content, moves, np.array(self.scales, np.float32), packed)

    def wanted(self, dtype):
        rows = [
            np.concatenate((in_floats(down), in_floats(up).T * scale), axis=1)
            for (down, up), scale in zip(self.pairs, self.scales, strict=True)
        ]
        return in_type(np.concatenate([row.reshape(-1) for row in rows] or [np.zeros(0, np.float32)]), dtype)


def test_the_kinds_are_those_that_numpy_has():
    assert len(TYPES) == len(KINDS)
    assert (KINDS[0], KINDS[1], KINDS[2]) == ("F16", "BF16", "F32")


@fuzzed
@given(st.integers(0, 4), st.sampled_from([np.uint16, np.float32]), seeds)
def test_pairs_are_packed_as_numpy_would(table, pairs, dtype, seed):
    file = File(np.random.default_rng(seed), pairs)
    packed, bad = file.packed(dtype)
    assert bad == -1
    assert packed.tobytes() == file.wanted(dtype).tobytes()


@fuzzed
@given(st.integers(1, 3), st.sampled_from([np.nan, np.inf, -np.inf]), seeds)
def test_the_first_tensor_that_is_not_finite_is_found(table, pairs, value, seed):
    dice = np.random.default_rng(seed)
    file = File(dice, pairs)
    number = int(dice.integers(2 * pairs))
    move, tensor = file.moves[number // 2], file.pairs[number // 2][number % 2]
    place = move[2 * (number % 2)] + tensor.itemsize * int(dice.integers(tensor.size))

    def spoil(content):
        number = in_type(np.array([value], np.float32), tensor.dtype.type)
        content[place : place + tensor.itemsize] = number.view(np.uint8)

    assert file.packed(np.uint16, spoil)[1] == number


@pytest.mark.parametrize("place", range(c.MOVE))
@pytest.mark.parametrize("value", [-1, 10**6])
def test_no_move_leads_out_of_an_array(place, value):
    file = File(np.random.default_rng(0), 2)
    file.moves[1] = (*file.moves[1][:place], value, *file.moves[1][place + 1 :])
    with pytest.raises(ValueError, match="leads out"):
        file.packed(np.uint16)


@fuzzed
@given(st.integers(0, 300), seeds)
def test_infinity_and_nan_are_found_anywhere(table, size, seed):
    dice = np.random.default_rng(seed)
    numbers = dice.integers(0, 2**16, size, dtype=np.uint16)
    numbers[(numbers & 0x7F80) == 0x7F80] = 0x7F7F
    assert finite(numbers)
    if size:
        numbers[dice.integers(size)] = dice.choice([0x7F80, 0xFF80, 0x7FC0, 0xFFFF])
        assert not finite(numbers)
