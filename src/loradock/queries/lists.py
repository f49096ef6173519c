"""Lists that may be long: what is asked of one, and what is found."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, or_
from sqlalchemy.orm import InstrumentedAttribute

Row = TypeVar("Row")
Column = ColumnElement[Any] | InstrumentedAttribute[Any]


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A list's query: rows with `text` in them, sorted by `column`: `size` rows after the first `start`."""

    column: str
    descending: bool = False
    text: str = ""
    size: int = 50
    start: int = 0


@dataclass(frozen=True, slots=True)
class Found(Generic[Row]):
    """`total`: how many there are that match; `all`: with nothing left out."""

    rows: Sequence[Row]
    total: int
    all: int


def has_text(text: str, columns: Sequence[Column]) -> list[ColumnElement[bool]]:
    """Return the condition that one of the columns has the text; no condition where there is no text."""
    return [or_(*(column.icontains(text, autoescape=True) for column in columns))] if text else []


def ordered(column: Column, query: ListQuery) -> ColumnElement[Any]:
    return column.desc() if query.descending else column.asc()


def cut(statement: Select[Any], query: ListQuery) -> Select[Any]:
    """Select only the rows that are asked for."""
    return statement.limit(query.size).offset(query.start)
