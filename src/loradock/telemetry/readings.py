"""Readings of endpoints, taken every few seconds and summed up."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Reading:
    """A reading of an endpoint: requests in flight, replicas that are ready, starting and wanted, adapters attached."""

    endpoint_id: str
    in_flight: int
    ready: int
    starting: int
    desired: int
    attachments: int

    @property
    def at_rest(self) -> bool:
        return not (self.in_flight or self.ready or self.starting or self.desired)


@dataclass(slots=True)
class Gauges:
    """Sums over `samples` looks; `peak` is the most that was in flight at once."""

    samples: int = 0
    in_flight: int = 0
    peak: int = 0
    ready: int = 0
    starting: int = 0
    desired: int = 0
    attachments: int = 0

    def record(self, reading: Reading) -> None:
        self.add(
            Gauges(
                1,
                reading.in_flight,
                reading.in_flight,
                reading.ready,
                reading.starting,
                reading.desired,
                reading.attachments,
            )
        )

    def add(self, other: "Gauges") -> None:
        peak = max(self.peak, other.peak)
        for column in fields(Gauges):
            setattr(self, column.name, getattr(self, column.name) + getattr(other, column.name))
        self.peak = peak

    def columns(self) -> dict[str, Any]:
        return {column.name: getattr(self, column.name) for column in fields(Gauges)}

    @classmethod
    def of(cls, row: Any) -> "Gauges":
        """Create it from a row with these columns."""
        return cls(**{column.name: getattr(row, column.name) for column in fields(Gauges)})


class GaugeSums:
    """Gauges per endpoint; endpoints at rest leave no trace."""

    def __init__(self) -> None:
        self.by_endpoint: dict[str, Gauges] = {}

    def record(self, readings: Iterable[Reading]) -> None:
        for reading in readings:
            if not reading.at_rest:
                self.by_endpoint.setdefault(reading.endpoint_id, Gauges()).record(reading)

    def add(self, other: "GaugeSums") -> None:
        for endpoint_id, gauges in other.by_endpoint.items():
            self.by_endpoint.setdefault(endpoint_id, Gauges()).add(gauges)
