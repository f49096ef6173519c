"""Merging old rows keeps every sum, however often it is killed."""

import random
import subprocess
import sys
import time

import pytest
from sqlalchemy import func, insert, select

from loradock.store.usage import EndpointRow, UsageRow
from loradock.telemetry.buckets import Bucket
from loradock.telemetry.downsample import FLUSH_S, downsample
from loradock.telemetry.readings import Gauges, GaugeSums
from loradock.telemetry.rows import endpoint_rows, usage_rows
from loradock.telemetry.usage import COUNTS, TIMES, Key, Usage

NOW = 1_800_000_000
CHILD = """
import sys
from loradock.store.database import Database
from loradock.telemetry.downsample import downsample
database = Database(sys.argv[1])
print("ready", flush=True)
downsample(database, float(sys.argv[2]))
"""


def fill(database, hours):
    """Ten-second rows over some hours up to NOW, of two adapters."""
    dice = random.Random(7)
    with database.session() as session:
        for start in range(NOW - hours * 3600, NOW, FLUSH_S):
            bucket, gauges = Bucket(), GaugeSums()
            for model in ("a/x", "a/y"):
                usage = Usage(ok=dice.randrange(5), aborted=1, completion_tokens=dice.randrange(100))
                usage.ttft.observe(dice.random())
                bucket.of(Key("acct", "key", "endpoint", model)).add(usage)
            gauges.by_endpoint["endpoint"] = Gauges(5, dice.randrange(9), dice.randrange(9), 5, 0, 5, 10)
            session.execute(insert(UsageRow), usage_rows(bucket, start, FLUSH_S))
            session.execute(insert(EndpointRow), endpoint_rows(bucket, gauges, start, FLUSH_S))


def sums(database):
    """All that must stay the same, per table."""
    found = []
    with database.session() as session:
        for table in (UsageRow, EndpointRow):
            total = Usage()
            for row in session.scalars(select(table)):
                total.add(Usage.of(row))
            found.append([getattr(total, name) for name in COUNTS] + [getattr(total, n).counts for n in TIMES])
        found.append(session.execute(select(func.sum(EndpointRow.samples), func.sum(EndpointRow.in_flight))).one())
        found.append(session.scalar(select(func.max(EndpointRow.peak))))
    return found


def spans(database, table):
    with database.session() as session:
        return set(session.scalars(select(table.span)))


@pytest.mark.parametrize(
    ("age", "left"),
    [(0, {10, 60}), (3600, {10, 60}), (2 * 3600, {60}), (86400, {60}), (2 * 86400, {3600})],
)
def test_rows_become_coarser_with_age(database, age, left):
    fill(database, 4)
    before = sums(database)
    for _ in range(2):
        downsample(database, NOW + age)
        assert sums(database) == before
        assert spans(database, UsageRow) == spans(database, EndpointRow) == left


def test_a_row_is_one_hour_of_one_adapter_in_the_end(database):
    fill(database, 2)
    downsample(database, NOW + 3 * 86400)
    with database.session() as session:
        assert session.scalar(select(func.count()).select_from(UsageRow)) == 4
        assert session.scalar(select(func.count()).select_from(EndpointRow)) == 2


def test_kills_lose_and_double_nothing(database):
    fill(database, 4)
    before = sums(database)
    dice = random.Random(3)
    killed = 0
    for _ in range(6):
        command = [sys.executable, "-c", CHILD, str(database.engine.url), str(NOW + 3 * 86400)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout.readline() == b"ready\n"
            time.sleep(dice.random() * 0.1)
            killed += child.poll() is None
            child.kill()
        assert sums(database) == before
    assert killed, "no kill came before the work was done"
    downsample(database, NOW + 3 * 86400)
    assert sums(database) == before
    assert spans(database, UsageRow) == {3600}
