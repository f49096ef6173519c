"""bfloat16 weights in 12 bits, exactly: reading them is what steps of few rows take their time for.

Of a number's two bytes the upper, sign and most of the exponent, takes few values: of each panel the 15 most frequent
are numbered. What has another one is 0 in the panel and stands in a list of its own, some thousand in a hundred
million. A line of 48 bytes holds 16 columns of two inputs: their 32 lower bytes, then the numbers of the upper ones.
"""

import numpy as np
from numba import carray, njit

from loradock.engine.kernels.kernels import BFLOAT16, FAST, pointer, value

LINE, NUMBERED, PANEL = 48, 16, 16
_BYTE = np.uint8(0)
_kernel = njit(nogil=True, fastmath=FAST, cache=True, error_model="numpy")
_part = njit(fastmath=FAST, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


@_kernel
def encode(weight, lines, uppers, rare, begin):
    """uint16 `[out, in]` into lines uint8 `[panels, in / 2, 48]` and uppers uint8 `[panels, 16]`. What is not numbered
    goes into rare int32 `[room, 3]` (input, output, bits) from `begin` on, as long as there is room; returns the end.
    """
    counts, numbers = np.empty(256, np.int64), np.empty(256, np.uint8)
    for panel in range(lines.shape[0]):
        rows = weight[panel * PANEL : (panel + 1) * PANEL]
        counts[:] = 0
        for n in range(PANEL):
            for k in range(rows.shape[1]):
                counts[rows[n, k] >> 8] += 1
        _number(counts, numbers, uppers[panel])
        begin = _encode_panel(rows, numbers, uppers[panel], lines[panel], rare, begin, panel * PANEL)
    return begin


@_part
def _number(counts, numbers, uppers):
    """0 is the upper byte of zero."""
    numbers[:] = 0
    uppers[0] = counts[0] = 0
    for n in range(1, NUMBERED):
        most = 0
        for upper in range(1, 256):
            if counts[upper] > counts[most]:
                most = upper
        uppers[n] = most
        if counts[most] > 0:
            numbers[most] = n
        counts[most] = 0


@_part
def _encode_panel(rows, numbers, uppers, lines, rare, end, first):
    for k in range(0, rows.shape[1], 2):
        line = lines[k // 2]
        for n in range(PANEL):
            line[2 * PANEL + n] = 0
            for second in range(2):
                bits = rows[n, k + second]
                number = numbers[bits >> 8]
                line[2 * n + second] = bits & 255
                if uppers[number] == bits >> 8:
                    line[2 * PANEL + n] |= number << (4 * second)
                    continue
                line[2 * n + second] = 0
                if end < rare.shape[0]:
                    rare[end, 0], rare[end, 1], rare[end, 2] = k + second, first + n, bits
                end += 1
    return end


@_part
def decode(lines_at, uppers_at, panel, column, x):
    """A column of a panel as float32, without what is in the list."""
    lines = carray(pointer(lines_at + panel * (x.size // 2) * LINE, _BYTE), (x.size // 2, LINE))
    uppers = carray(pointer(uppers_at + panel * NUMBERED, _BYTE), (NUMBERED,))
    for k in range(x.size):
        number = lines[k // 2, 2 * PANEL + column] >> (4 * (k % 2)) & 15
        x[k] = value(np.uint16(np.uint16(uppers[number]) << np.uint16(8) | lines[k // 2, 2 * column + k % 2]))


@_part
def rare_of(rare_at, count, output, x):
    """Put an output's weights that are in the list into its column."""
    rare = carray(pointer(rare_at, np.int32(0)), (count, 3))
    for n in range(count):
        if rare[n, 1] == output:
            x[rare[n, 0]] = value(np.uint16(rare[n, 2]))


@_part
def add_rare(rare_at, count, x_at, x_stride, depth, rows, out, out_stride, first, end):
    """Add what the weights in the list contribute to columns `first:end` of float32 `[rows, …]` at `out`. The list has
    the order of the panels, and the columns are whole ones.
    """
    rare = carray(pointer(rare_at, np.int32(0)), (count, 3))
    low, high = _first_of(rare, first), _first_of(rare, end)
    for i in range(rows if low < high else 0):
        x = carray(pointer(x_at + i * x_stride, BFLOAT16), (depth,))
        row = pointer(out + i * out_stride, np.float32(0))
        for n in range(low, high):
            row[rare[n, 1]] += value(x[rare[n, 0]]) * value(np.uint16(rare[n, 2]))


@_part
def _first_of(rare, column):
    """Return where in the list the panel of `column`, or what follows it, begins."""
    low, high = 0, rare.shape[0]
    while low < high:
        middle = (low + high) // 2
        if rare[middle, 1] // PANEL * PANEL < column:
            low = middle + 1
        else:
            high = middle
    return low
