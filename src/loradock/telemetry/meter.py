"""Counting what is served, in memory, once per request. All of it on the event loop."""

import time
from collections.abc import Collection

from loradock.telemetry.buckets import Bucket, Served
from loradock.telemetry.usage import Key, Request, outcome_of
from loradock.types.enums import Outcome
from loradock.types.errors import LoradockError


class Measured:
    """Measures a request while the block runs, and counts it however that ends."""

    def __init__(self, meter: "Meter", key: Key, began: float) -> None:
        self._meter = meter
        self.request = Request(key, began)

    def __enter__(self) -> Request:
        return self.request

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.request.ended = time.perf_counter()
        if isinstance(error, LoradockError):
            self.request.outcome = outcome_of(error.status)
        elif isinstance(error, Exception):  # which a cancellation is not
            self.request.outcome = Outcome.SERVER_ERROR
        self._meter.count(self.request)


class Meter:
    """`served` lags behind by what `take` has not fetched yet; `now_served` does not."""

    def __init__(self) -> None:
        self._current = Bucket()
        self.served = Served()

    def count(self, request: Request) -> None:
        self._current.of(request.key).count(request)

    def take(self) -> Bucket:
        """Return what was counted since the last call."""
        taken, self._current = self._current, Bucket()
        self.served.add(taken)
        return taken

    def now_served(self, endpoint_ids: Collection[str]) -> Served:
        """A copy of what these endpoints have served until now."""
        served = self.served.copy(endpoint_ids)
        served.add(self._current, endpoint_ids)
        return served
