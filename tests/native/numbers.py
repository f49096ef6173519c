"""What the kernels should compute, in plain NumPy."""

import numpy as np

from loradock.engine.kernels.structures import GROUP, PANEL, Format

LIMIT = np.float32(1e-30)


def bits_of(values):
    """float32 → bfloat16 as uint16, to the nearest, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), (bits >> 16) | 0x40, rounded).astype(np.uint16)


def floats_of(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def rounded(values):
    return floats_of(bits_of(values))


def panels_of(numbers, beside):
    """`[outputs, inputs]` → `[panels, inputs / beside, 16, beside]`."""
    return numbers.reshape(len(numbers) // PANEL, PANEL, -1, beside).swapaxes(1, 2)


def rows_of(panels):
    """The other way round."""
    count, parts, _, beside = panels.shape
    return panels.swapaxes(1, 2).reshape(count * PANEL, parts * beside)


def in_bytes(weight):
    """Numbers from 1 to 255 and half scales `[outputs, groups]`."""
    groups = weight.reshape(len(weight), -1, GROUP)
    scales = (np.abs(groups).max(2) / np.float32(127)).astype(np.float16)
    steps = np.rint(groups / np.maximum(scales.astype(np.float32), LIMIT)[..., None])
    return (np.clip(steps, -127, 127) + 128).astype(np.uint8).reshape(weight.shape), scales


def in_nibbles(weight):
    """Numbers from 0 to 15, half scales and offsets `[outputs, groups]`."""
    groups = weight.reshape(len(weight), -1, GROUP)
    low, high = groups.min(2), groups.max(2)
    scales, offsets = ((high - low) / np.float32(15)).astype(np.float16), low.astype(np.float16)
    steps = (groups - offsets.astype(np.float32)[..., None]) / np.maximum(scales.astype(np.float32), LIMIT)[..., None]
    return np.clip(np.rint(steps), 0, 15).astype(np.uint8).reshape(weight.shape), scales, offsets


def packed(weight, format_):
    """Numbers and scales as bytes, and the list of rare weights, of float32 `[outputs, inputs]`, both padded."""
    if format_ is Format.FLOAT32:
        return panels_of(weight, 1).tobytes(), b"", []
    if format_ is Format.BFLOAT16:
        return panels_of(bits_of(weight), 2).tobytes(), b"", []
    if format_ is Format.CODED:
        return _coded(panels_of(bits_of(weight), 2))
    if format_ is Format.INT8:
        numbers, scales = in_bytes(weight)
        return panels_of(numbers, 4).tobytes(), panels_of(scales, 1).tobytes(), []
    numbers, *both = in_nibbles(weight)
    lines = panels_of(numbers, 4)
    scales = np.stack([panels_of(part, 1)[..., 0] for part in both], axis=2)
    return (lines[:, 0::2] | lines[:, 1::2] << 4).tobytes(), scales.tobytes(), []


def _coded(pairs):
    lines, uppers, rare = [], [], []
    for number, panel in enumerate(pairs):
        high, low = (panel >> 8).astype(np.uint8), (panel & 255).astype(np.uint8)
        counts = np.bincount(high.ravel(), minlength=256)
        counts[0] = 0
        most = np.argsort(-counts, kind="stable")[:15]
        known = np.concatenate(([0], np.where(counts[most] > 0, most, 0))).astype(np.uint8)
        places = np.zeros(256, np.uint8)
        for place in range(15, 0, -1):
            places[known[place]] = place
        places[0] = 0
        missing = known[places[high]] != high
        numbers = np.where(missing, 0, places[high]).astype(np.uint8)
        line = np.concatenate(
            (np.where(missing, 0, low).reshape(len(panel), -1), numbers[..., 0] | numbers[..., 1] << 4), axis=1
        )
        lines.append(line.astype(np.uint8))
        uppers.append(known)
        rare += [(2 * k + s, number * PANEL + n, panel[k, n, s]) for k, n, s in np.argwhere(missing)]
    return np.array(lines).tobytes(), np.array(uppers).tobytes(), rare


def unpacked(format_, numbers, scales, rare, inputs):
    """float64 `[outputs, inputs]` of what `pack` wrote."""
    if format_ is Format.FLOAT32:
        return rows_of(numbers.view(np.float32).reshape(-1, inputs, PANEL, 1)).astype(np.float64)
    if format_ is Format.BFLOAT16:
        return floats_of(rows_of(numbers.view(np.uint16).reshape(-1, inputs // 2, PANEL, 2))).astype(np.float64)
    if format_ is Format.CODED:
        lines, uppers = numbers.reshape(-1, inputs // 2, 48), scales.reshape(-1, 16)
        lower = lines[..., :32].reshape(-1, inputs // 2, PANEL, 2)
        places = np.stack((lines[..., 32:] & 15, lines[..., 32:] >> 4), axis=3)
        upper = np.stack([known[place] for known, place in zip(uppers, places, strict=True)])
        weight = floats_of(rows_of(upper.astype(np.uint16) << 8 | lower)).astype(np.float64)
        for k, n, bits in rare:
            weight[n, k] = floats_of(np.array([bits], np.uint16))[0]
        return weight
    groups = inputs // GROUP
    if format_ is Format.INT8:
        whole = rows_of(numbers.reshape(-1, inputs // 4, PANEL, 4)).astype(np.float64) - 128
        return whole * _spread(scales.view(np.float16).reshape(-1, groups, PANEL))
    lines = numbers.reshape(-1, inputs // 8, PANEL, 4)
    whole = rows_of(np.stack((lines & 15, lines >> 4), axis=2).reshape(-1, inputs // 4, PANEL, 4))
    both = scales.view(np.float16).reshape(-1, groups, 2, PANEL)
    return whole * _spread(both[:, :, 0]) + _spread(both[:, :, 1])


def _spread(groups):
    """`[panels, groups, 16]` → `[outputs, inputs]`."""
    return np.repeat(rows_of(groups[..., None]).astype(np.float64), GROUP, axis=1)
