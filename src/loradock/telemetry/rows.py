"""Rows for the tables of store.usage, and merging them."""

from collections.abc import Iterable
from typing import Any

from loradock.store.usage import EndpointRow, UsageRow
from loradock.telemetry.buckets import Bucket
from loradock.telemetry.readings import Gauges, GaugeSums
from loradock.telemetry.usage import Key, Usage

Row = dict[str, Any]


def usage_rows(bucket: Bucket, start: int, span: int) -> list[Row]:
    head = {"start": start, "span": span}
    return [{**head, **key._asdict(), **usage.columns()} for key, usage in bucket.rows.items()]


def endpoint_rows(bucket: Bucket, gauges: GaugeSums, start: int, span: int) -> list[Row]:
    """Return one row per endpoint that was called or seen running."""
    sums: dict[str, Usage] = {}
    for key, usage in bucket.rows.items():
        sums.setdefault(key.endpoint_id, Usage()).add(usage)
    return _endpoint_rows(sums, gauges.by_endpoint, start, span)


def merged_usage(rows: Iterable[UsageRow], start: int, span: int) -> list[Row]:
    bucket = Bucket()
    for row in rows:
        bucket.of(Key(row.account_id, row.key_id, row.endpoint_id, row.model)).add(Usage.of(row))
    return usage_rows(bucket, start, span)


def merged_endpoints(rows: Iterable[EndpointRow], start: int, span: int) -> list[Row]:
    sums: dict[str, Usage] = {}
    gauges: dict[str, Gauges] = {}
    for row in rows:
        sums.setdefault(row.endpoint_id, Usage()).add(Usage.of(row))
        gauges.setdefault(row.endpoint_id, Gauges()).add(Gauges.of(row))
    return _endpoint_rows(sums, gauges, start, span)


def _endpoint_rows(sums: dict[str, Usage], gauges: dict[str, Gauges], start: int, span: int) -> list[Row]:
    return [
        {
            "start": start,
            "span": span,
            "endpoint_id": endpoint_id,
            **sums.get(endpoint_id, Usage()).columns(),
            **gauges.get(endpoint_id, Gauges()).columns(),
        }
        for endpoint_id in dict.fromkeys([*sums, *gauges])
    ]
