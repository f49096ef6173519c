"""Times in log-spaced buckets: small, mergeable by addition, read by interpolation."""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

BOUNDS = tuple(float(f"{0.001 * 1.25**step:.3g}") for step in range(54))
"""Upper bounds in seconds, 1 ms to 137 s, each about a quarter above the last; what is above counts in one bucket
more."""


class Histogram:
    """`counts` maps a bucket's index to its count and holds no zeros; `total` is the sum in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        bucket = bisect_left(BOUNDS, seconds)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.total += seconds

    def add(self, other: "Histogram") -> None:
        for bucket, count in list(other.counts.items()):
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.total += other.total

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    def percentile(self, share: float) -> float | None:
        """Seconds below which `share` (0 to 1) of the times lie, off by at most a bucket's width; None when empty."""
        wanted, below = share * self.count, 0
        for bucket, count in sorted(self.counts.items()):
            if below + count >= wanted:
                low, high = _edges(bucket)
                return low + (high - low) * (wanted - below) / count
            below += count
        return None

    def cumulated(self, bounds: Iterable[float]) -> list[int]:
        """Return how many times lie at or below each of `bounds`, which must be ascending and among BOUNDS."""
        return [sum(n for bucket, n in self.counts.items() if bucket <= bisect_left(BOUNDS, bound)) for bound in bounds]

    def packed(self) -> list[Any]:
        """Return it for JSON: the sum in seconds, then bucket, count, bucket, count…; `[]` when empty."""
        flat = [number for item in sorted(self.counts.items()) for number in item]
        return [round(self.total, 6), *flat] if flat else []

    @classmethod
    def unpacked(cls, packed: list[Any]) -> "Histogram":
        histogram = cls()
        if packed:
            histogram.total = packed[0]
            histogram.counts = dict(zip(packed[1::2], packed[2::2], strict=True))
        return histogram


def _edges(bucket: int) -> tuple[float, float]:
    """Return the edges of a bucket, in seconds; the one above all bounds has no width."""
    high = BOUNDS[min(bucket, len(BOUNDS) - 1)]
    return (high, high) if bucket == len(BOUNDS) else (BOUNDS[bucket - 1] if bucket else 0.0, high)
