"""The tables of what was served: sums over a span of time, so that any two rows merge by addition."""

from typing import Any

from sqlalchemy import BigInteger, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from loradock.store.tables import Base


class Sums:
    """`start` is in Unix seconds and `span` in seconds. Times are packed histograms
    (telemetry.histogram.Histogram.packed)."""

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    start: Mapped[int] = mapped_column(BigInteger)
    span: Mapped[int]
    endpoint_id: Mapped[str] = mapped_column(String(64))
    ok: Mapped[int] = mapped_column(BigInteger)
    client_error: Mapped[int] = mapped_column(BigInteger)
    server_error: Mapped[int] = mapped_column(BigInteger)
    aborted: Mapped[int] = mapped_column(BigInteger)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    ttft: Mapped[list[Any]]
    per_token: Mapped[list[Any]]
    duration: Mapped[list[Any]]


class UsageRow(Sums, Base):
    """A row per caller: `account_id` and `key_id` are the caller's. `model` is the adapter's name, "" for the base. No
    foreign keys: what was used stays known when the endpoint, the adapter or the key is gone."""

    __tablename__ = "usage"
    __table_args__ = (
        Index("ix_usage_span_start", "span", "start"),
        Index("ix_usage_account_id_start", "account_id", "start"),
        Index("ix_usage_endpoint_id_start", "endpoint_id", "start"),
    )

    account_id: Mapped[str] = mapped_column(String(64))
    key_id: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(200))


class EndpointRow(Sums, Base):
    """A row per endpoint, all callers and models together, so that its charts need not read every adapter's rows.

    It also holds what was seen of it, as sums over `samples` looks; `peak` is the most in flight at once.
    """

    __tablename__ = "endpoint_history"
    __table_args__ = (
        Index("ix_endpoint_history_span_start", "span", "start"),
        Index("ix_endpoint_history_endpoint_id_start", "endpoint_id", "start"),
    )

    samples: Mapped[int]
    in_flight: Mapped[int] = mapped_column(BigInteger)
    peak: Mapped[int]
    ready: Mapped[int] = mapped_column(BigInteger)
    starting: Mapped[int] = mapped_column(BigInteger)
    desired: Mapped[int] = mapped_column(BigInteger)
    attachments: Mapped[int] = mapped_column(BigInteger)
