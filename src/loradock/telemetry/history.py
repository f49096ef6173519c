"""Writes the meter's counts and the readings of endpoints to the store every ten seconds."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from sqlalchemy import insert

from loradock.store.database import Database
from loradock.store.failures import DATABASE_FAILURES
from loradock.store.repeats import Repeats
from loradock.store.usage import EndpointRow, UsageRow
from loradock.store.workers import Workers
from loradock.telemetry.buckets import Bucket
from loradock.telemetry.downsample import FLUSH_S, downsample
from loradock.telemetry.meter import Meter
from loradock.telemetry.readings import GaugeSums, Reading
from loradock.telemetry.rows import endpoint_rows, usage_rows

_log = logging.getLogger(__name__)
_LOOK_S = 2.0
_DOWNSAMPLE_S = 60.0


class History:
    """`readings` gives a look at every endpoint there is. `start` and `stop` on the event loop; writing is done in
    threads. What could not be written is kept and written with the next."""

    def __init__(
        self,
        database: Database,
        meter: Meter,
        readings: Callable[[], list[Reading]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._meter = meter
        self._readings = readings
        self._clock = clock
        self._unwritten = Bucket()
        self._gauges = GaugeSums()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._downsampled = 0.0
        self._workers = Workers("telemetry", 1)
        self._repeats = Repeats(_log)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Writes what there is. Not by cancelling: a write under way would be seen as failed and done twice."""
        self._stopping.set()
        if self._task is not None:
            await self._task
        self._look()
        await self.flush()

    async def flush(self) -> None:
        self._unwritten.add(self._meter.take())
        # The middle of the time it is about, also when the loop was a little late.
        start = int(self._clock() - FLUSH_S / 2) // FLUSH_S * FLUSH_S
        try:
            await self._workers.run(lambda: self._write(self._unwritten, self._gauges, start))
        except DATABASE_FAILURES as error:
            self._repeats.failed("writing what was served", error)
        else:
            self._repeats.worked("writing what was served")
            self._unwritten = Bucket()
            self._gauges = GaugeSums()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            await self._look_on()
            if not self._stopping.is_set():
                await self.flush()
                await self._downsample()

    async def _look_on(self) -> None:
        """Look at endpoints until the next multiple of the flush span."""
        until = (self._clock() // FLUSH_S + 1) * FLUSH_S
        while not self._stopping.is_set() and (left := until - self._clock()) > 0:
            self._look()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, _LOOK_S)):
                    await self._stopping.wait()

    def _look(self) -> None:
        readings = self._readings()
        self._gauges.record(readings)
        self._meter.served.keep({reading.endpoint_id for reading in readings})

    async def _downsample(self) -> None:
        if self._clock() - self._downsampled < _DOWNSAMPLE_S:
            return
        self._downsampled = self._clock()
        try:
            await self._workers.run(lambda: downsample(self._database, self._clock()))
        except DATABASE_FAILURES as error:
            self._repeats.failed("merging old rows of what was served", error)

    def _write(self, bucket: Bucket, gauges: GaugeSums, start: int) -> None:
        used, seen = usage_rows(bucket, start, FLUSH_S), endpoint_rows(bucket, gauges, start, FLUSH_S)
        with self._database.session() as session:
            if used:
                session.execute(insert(UsageRow), used)
            if seen:
                session.execute(insert(EndpointRow), seen)
