"""Old rows become fewer: ten seconds each for two hours, a minute for two days, an hour for 400 days."""

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from loradock.store.database import Database
from loradock.store.usage import EndpointRow, UsageRow
from loradock.telemetry.rows import Row, merged_endpoints, merged_usage

FLUSH_S = 10
_DAY_S = 86400
STEPS = ((FLUSH_S, 60, 2 * 3600), (60, 3600, 2 * _DAY_S))
"""(span, the coarser span, the age in seconds from which rows become coarser)"""
KEEP_S = 400 * _DAY_S
_Merge = Callable[[Iterable[Any], int, int], list[Row]]
_TABLES: tuple[tuple[type[UsageRow] | type[EndpointRow], _Merge], ...] = (
    (UsageRow, merged_usage),
    (EndpointRow, merged_endpoints),
)


def downsample(database: Database, now: float) -> None:
    """Write one coarse bucket per transaction, so that a kill at any point loses and doubles nothing. Blocks."""
    for table, merge in _TABLES:
        for fine, coarse, age in STEPS:
            before = int(now - age) // coarse * coarse
            while _merge_oldest(database, table, merge, fine, coarse, before):
                pass
        with database.session() as session:
            session.execute(delete(table).where(table.span == STEPS[-1][1], table.start < now - KEEP_S))


def _merge_oldest(
    database: Database,
    table: type[UsageRow] | type[EndpointRow],
    merge: _Merge,
    fine: int,
    coarse: int,
    before: int,
) -> bool:
    """Whether there was anything to merge."""
    with database.session() as session:
        oldest = session.scalar(select(func.min(table.start)).where(table.span == fine, table.start < before))
        if oldest is None:
            return False
        _replace(session, table, merge, fine, oldest // coarse * coarse, coarse)
        return True


def _replace(
    session: Session, table: type[UsageRow] | type[EndpointRow], merge: _Merge, fine: int, start: int, coarse: int
) -> None:
    inside = (table.span == fine, table.start >= start, table.start < start + coarse)
    merged = merge(session.scalars(select(table).where(*inside)), start, coarse)
    session.execute(delete(table).where(*inside).execution_options(synchronize_session=False))
    session.execute(insert(table), merged)
