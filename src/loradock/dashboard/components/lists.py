"""Lists that may be long: what an address asks of one (search, filters, sort, page), and one page of its rows."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from loradock.queries.lists import Found, ListQuery

PAGE_SIZE = 50
_LONGEST_TEXT = 200
_MOST_DIGITS = 6
Row = TypeVar("Row")
Filters = Mapping[str, Collection[str] | None]
"""A filter's name → the words it may say; None for any word."""


@dataclass(frozen=True, slots=True)
class Asked:
    """`sort` is a column, with `-` in front for the largest first; `page` counts from 1. `more` are the words of an
    address that are not this list's, and stay as they are."""

    path: str
    usual_sort: str
    sort: str
    text: str = ""
    page: int = 1
    filters: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def narrowed(self) -> bool:
        """Whether something is left out."""
        return bool(self.text) or any(self.filters.values())

    @property
    def column(self) -> str:
        return self.sort.removeprefix("-")

    @property
    def descending(self) -> bool:
        return self.sort.startswith("-")

    @property
    def query(self) -> str:
        """The query of the address, without what is usual."""
        words = {
            **self.more,
            "q": self.text,
            **self.filters,
            "sort": "" if self.sort == self.usual_sort else self.sort,
            "page": "" if self.page == 1 else str(self.page),
        }
        return urlencode({name: word for name, word in words.items() if word})

    def list_query(self, size: int = PAGE_SIZE) -> ListQuery:
        """Return the query that reads the rows from the database."""
        return ListQuery(self.column, self.descending, self.text, size, (self.page - 1) * size)

    def address(self, **changes: Any) -> str:
        """Return the address of the list with `changes`; it begins anew unless the page is one of them."""
        changed = replace(self, **{"page": 1, **changes})
        return f"{self.path}?{changed.query}" if changed.query else self.path


@dataclass(frozen=True, slots=True)
class Shown(Generic[Row]):
    """One page of a list. `total`: how many there are that match; `all`: with nothing left out, where that is known."""

    asked: Asked
    rows: Sequence[Row]
    total: int
    size: int = PAGE_SIZE
    all: int | None = None

    @property
    def first(self) -> int:
        return (self.asked.page - 1) * self.size + 1

    @property
    def last(self) -> int:
        return self.first + len(self.rows) - 1

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // self.size))


def read_asked(
    path: str,
    query: QueryParams,
    *,
    sorts: Collection[str],
    usual: str,
    filters: Filters | None = None,
    more: Collection[str] = (),
) -> Asked:
    """Read what the address asks for; what cannot be read is as if it were not there."""
    sort, number = query.get("sort", ""), query.get("page", "1")
    readable = number.isascii() and number.isdecimal() and len(number) <= _MOST_DIGITS
    return Asked(
        path=path,
        usual_sort=usual,
        sort=sort if sort.removeprefix("-") in sorts else usual,
        text=query.get("q", "").strip()[:_LONGEST_TEXT],
        page=max(1, int(number)) if readable else 1,
        filters={name: _allowed(query.get(name, ""), words) for name, words in (filters or {}).items()},
        more={name: query[name] for name in more if name in query},
    )


def _allowed(word: str, words: Collection[str] | None) -> str:
    return word if words is None or word in words else ""


def shown(asked: Asked, found: Found[Row], size: int = PAGE_SIZE) -> Shown[Row]:
    return Shown(asked, found.rows, found.total, size, found.all)


def cut(asked: Asked, rows: Sequence[Row], size: int = PAGE_SIZE, all: int | None = None) -> Shown[Row]:
    """The page asked for of rows that are all at hand."""
    start = (asked.page - 1) * size
    return Shown(asked, rows[start : start + size], len(rows), size, all)
