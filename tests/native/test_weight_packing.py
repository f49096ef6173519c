"""Weights in panels, byte for byte."""

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType as GGML
from gguf.quants import dequantize, quantize
from hypothesis import given, settings
from hypothesis import strategies as st

from loradock.engine.kernels.memory import padded
from loradock.engine.kernels.structures import GROUP, PANEL, Format
from loradock.engine.kernels.weight_packing import Blocks, Kind, Ordered, convert, pack, panel_bytes
from tests.native import numbers as plain

FEW_BITS = (Format.INT8, Format.INT4)
fuzzed = settings(max_examples=100, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def weights(dice, rows, columns):
    """Of many sizes, with groups of zeros and of nearly nothing."""
    sizes = np.exp2(dice.integers(-6, 3, (rows, 1))) * np.where(dice.random((rows, columns)) < 0.002, 1e3, 0.02)
    found = (dice.standard_normal((rows, columns)) * sizes).astype(np.float32)
    found[dice.integers(rows), : dice.integers(columns + 1)] = dice.choice([0, 1e-7, 1e-30])
    return found


def in_panels(rows, shape, format_, first=0):
    """What `pack` writes from panel `first` on, everything before it untouched."""
    lines, beside = panel_bytes(shape[1], format_)
    panels = first + padded(shape[0], PANEL) // PANEL
    numbers, scales = np.full(panels * lines, 7, np.uint8), np.full(panels * beside, 7, np.uint8)
    room = np.zeros((shape[0] * shape[1], 3), np.int32)
    count = pack(rows, format_, numbers, scales, room, first=first)
    assert (numbers[: first * lines] == 7).all()
    assert (scales[: first * beside] == 7).all()
    return numbers[first * lines :], scales[first * beside :], room[:count]


@fuzzed
@given(
    st.sampled_from(Format), st.sampled_from([np.float32, np.float16, np.uint16]), st.integers(1, 50),
    st.integers(1, 200), st.integers(0, 3), st.booleans(), seeds,
)  # fmt: skip
def test_every_format_of_every_kind(table, format_, dtype, rows, columns, first, ordered, seed):
    dice = np.random.default_rng(seed)
    if format_ in FEW_BITS:
        columns = padded(columns, GROUP)
    weight = weights(dice, rows, columns)
    source = plain.bits_of(weight) if dtype is np.uint16 else weight.astype(dtype)
    exact = plain.floats_of(source) if dtype is np.uint16 else source.astype(np.float32)
    order = dice.integers(rows, size=dice.integers(1, 40))
    whole = exact[order] if ordered else exact
    wide = np.zeros((padded(len(whole), PANEL), padded(columns, GROUP)), np.float32)
    wide[: len(whole), :columns] = whole
    numbers, scales, rare = in_panels(Ordered(source, order) if ordered else source, whole.shape, format_, first)
    wanted = plain.packed(wide, format_)
    assert numbers.tobytes() == wanted[0]
    assert scales.tobytes() == wanted[1]
    assert rare.tolist() == [[k, n + first * PANEL, bits] for k, n, bits in wanted[2]]
    assert (convert(source, np.float32) == exact).all()
    assert (convert(source, np.uint16) == plain.bits_of(exact)).all()


def test_a_coded_weight_is_what_it_was(table):
    weight = plain.rounded(weights(np.random.default_rng(0), 64, 320))
    numbers, scales, rare = in_panels(plain.bits_of(weight), weight.shape, Format.CODED)
    assert len(rare) > 0
    assert (plain.unpacked(Format.CODED, numbers, scales, rare, 320) == weight).all()


def test_rare_weights_without_room_are_counted(table):
    weight = plain.bits_of(np.exp2(np.random.default_rng(0).uniform(-100, 100, (16, 64))).astype(np.float32))
    lines, beside = panel_bytes(64, Format.CODED)
    room = np.zeros((10, 3), np.int32)
    count = pack(weight, Format.CODED, np.zeros(lines, np.uint8), np.zeros(beside, np.uint8), room[:4])
    assert count == len(in_panels(weight, weight.shape, Format.CODED)[2]) > 10
    assert (room[:4, 2] != 0).all()
    assert not room[4:].any()


KINDS = {Kind.Q8_0: GGML.Q8_0, Kind.Q4_0: GGML.Q4_0, Kind.Q4_1: GGML.Q4_1, Kind.Q4_K: GGML.Q4_K}


def blocks(dice, kind, rows, columns):
    """Random blocks; scales of Q4_K are random too, the others' those of random weights."""
    if kind is not Kind.Q4_K:
        return quantize(weights(dice, rows, columns), KINDS[kind])
    content = dice.integers(0, 256, (rows, columns // 256, 144), dtype=np.uint8)
    content[..., :4] = dice.uniform(0, 1e-3, (rows, columns // 256, 2)).astype(np.float16).view(np.uint8)
    return content.reshape(rows, -1)


@fuzzed
@given(st.sampled_from([*KINDS]), st.integers(1, 40), st.integers(1, 3), st.booleans(), seeds)
def test_ggufs_blocks_keep_their_numbers(table, kind, rows, width, ordered, seed):
    dice = np.random.default_rng(seed)
    content = blocks(dice, kind, rows, 256 * width)
    wanted = dequantize(content, KINDS[kind]) + np.float32(0)  # no zero below zero
    order = dice.integers(rows, size=dice.integers(1, 40)) if ordered else np.arange(rows)
    source = Ordered(Blocks(kind, content), order) if ordered else Blocks(kind, content)
    wanted = wanted[order]
    assert (convert(source, np.float32) == wanted).all()
    assert (convert(source, np.uint16) == plain.bits_of(wanted)).all()
    exact = {Format.INT8: (Kind.Q8_0, Kind.Q4_0), Format.INT4: (Kind.Q4_0, Kind.Q4_1)}
    for format_ in FEW_BITS:
        numbers, scales, _ = in_panels(source, wanted.shape, format_)
        found = plain.unpacked(format_, numbers, scales, [], 256 * width)[: len(order)]
        if kind in exact[format_]:
            assert (found.astype(np.float32) == wanted).all()
        elif (format_, kind) == (Format.INT4, Kind.Q4_K):
            # Scale and offset were products of a half and an integer, and are halves now.
            size = np.abs(wanted).reshape(len(wanted), -1, GROUP).max(2) + 63e-3
            assert (np.abs(found - wanted).reshape(len(wanted), -1, GROUP) <= 2.0**-10 * size[..., None]).all()
        else:
            wide = np.zeros((padded(len(order), PANEL), 256 * width), np.float32)
            wide[: len(order)] = wanted
            assert numbers.tobytes() == plain.packed(wide, format_)[0]


@pytest.mark.parametrize("kind", [Kind.Q8_0, Kind.Q4_0, Kind.Q4_1])
@pytest.mark.parametrize("format_", FEW_BITS)
def test_the_outermost_numbers_and_scales_of_blocks(table, kind, format_):
    """Every byte of a block, and scales that are no halves once they are multiplied by eight."""
    content = np.zeros((256, {Kind.Q8_0: 34, Kind.Q4_0: 18, Kind.Q4_1: 20}[kind]), np.uint8)
    head = 4 if kind is Kind.Q4_1 else 2
    content[:, :head] = np.resize(np.array([0.5, -2, 9000, 6e-8], np.float16), (256, head // 2)).view(np.uint8)
    content[:, head:] = np.arange(256, dtype=np.uint8)[:, None]
    wanted = dequantize(content, KINDS[kind])
    numbers, scales, _ = in_panels(Blocks(kind, content), (256, 32), format_)
    with np.errstate(invalid="ignore"):
        found = plain.unpacked(format_, numbers, scales, [], 32)
    step = np.ptp(wanted, axis=1, keepdims=True) / (15 if format_ is Format.INT4 else 127)
    most = np.abs(wanted).max(axis=1, keepdims=True)
    near = np.abs(found - wanted) <= step + most / 100 + 1e-6
    assert near[most[:, 0] < 65504].all()  # a half is not larger
    assert (most < 65504).sum() > 100


@pytest.mark.parametrize("format_", Format)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_so(table, format_, value):
    weight = weights(np.random.default_rng(0), 16, 64)
    weight[3, 40] = value
    numbers, scales, rare = in_panels(weight, weight.shape, format_)
    with np.errstate(invalid="ignore"):
        found = plain.unpacked(format_, numbers, scales, rare, 64)
    assert not np.isfinite(found[3, 40])
    assert np.isfinite(found[:3]).all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda a: a.update(rows=a["rows"].astype(np.int32)), "no rows of a weight"),
        (lambda a: a.update(rows=a["rows"][:, ::2]), "in one piece"),
        (lambda a: a.update(numbers=a["numbers"][1:]), "panels need"),
        (lambda a: a.update(scales=a["scales"][1:]), "panels need"),
        (lambda a: a.update(first=-1), "cannot be packed"),
        (lambda a: a.update(rows=a["rows"][:, :50].copy()), "cannot be packed"),
        (lambda a: a.update(rare=np.zeros((1, 2), np.int32)), "in one piece"),
        (lambda a: a.update(rows=Ordered(a["rows"], np.array([16]))), "none of 16"),
        (lambda a: a.update(rows=Ordered(a["rows"], np.array([-1]))), "none of 16"),
        (lambda a: a.update(rows=Blocks(Kind.Q8_0, np.zeros((16, 35), np.uint8))), "whole blocks"),
        (lambda a: a["numbers"].setflags(write=False), "must not be changed"),
    ],
)
def test_nothing_wrong_goes_over_the_border(change, reason):
    lines, beside = panel_bytes(64, Format.INT8)
    given = {
        "rows": np.zeros((16, 64), np.float32),
        "format_": Format.INT8,
        "numbers": np.zeros(lines, np.uint8),
        "scales": np.zeros(beside, np.uint8),
        "rare": np.zeros((0, 3), np.int32),
    }
    pack(**given)
    change(given)
    with pytest.raises(ValueError, match=reason):
        pack(**given)
