"""Search, order and pages of what can be many; all of it ours, and nothing changes for clients that ask for none."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Generic, Literal, NotRequired, TypeVar

from fastapi import Depends, Query
from typing_extensions import TypedDict

from loradock.types.errors import BadRequest

Item = TypeVar("Item", bound=Mapping[str, Any])


class Listed(TypedDict, Generic[Item]):
    """`total` and `has_more` only where a page was asked for."""

    object: Literal["list"]
    data: list[Item]
    total: NotRequired[int]
    has_more: NotRequired[bool]


def as_list(data: list[Item]) -> Listed[Item]:
    return {"object": "list", "data": data}


class Page:
    """`sort` is a field of the items, with `-` in front downwards. Without a `limit` all are shown."""

    def __init__(
        self,
        search: Annotated[str | None, Query(max_length=200, description="Only what has this text in it.")] = None,
        sort: Annotated[
            str | None, Query(max_length=100, description="A field of the items; with - in front downwards.")
        ] = None,
        limit: Annotated[int | None, Query(ge=1, le=10_000, description="How many at most; default: all.")] = None,
        offset: Annotated[int, Query(ge=0, description="How many to leave out before.")] = 0,
    ) -> None:
        self.search = search
        self.sort = sort
        self.limit = limit
        self.offset = offset

    @property
    def asked(self) -> bool:
        return (self.search, self.sort, self.limit, self.offset) != (None, None, None, 0)

    def of(self, items: Sequence[Item]) -> list[Item]:
        """Raises BadRequest for a field that the items do not have."""
        return self._cut(self.found(items))

    def found(self, items: Sequence[Item]) -> list[Item]:
        """Searched and in order, whole."""
        if self.search is not None:
            wanted = self.search.casefold()
            items = [item for item in items if wanted in _text(item)]
        return self._sorted(items) if self.sort is not None else list(items)

    def listed(self, items: Sequence[Item]) -> Listed[Item]:
        """A list object of the page; with `total` and `has_more` for those who asked for one."""
        found = self.found(items)
        shown = self._cut(found)
        listed = as_list(shown)
        if self.asked:
            listed["total"] = len(found)
            listed["has_more"] = self.offset + len(shown) < len(found)
        return listed

    def _cut(self, items: list[Item]) -> list[Item]:
        return items[self.offset : None if self.limit is None else self.offset + self.limit]

    def _sorted(self, items: Sequence[Item]) -> list[Item]:
        field = (self.sort or "").removeprefix("-")
        fields = {name for item in items for name, value in item.items() if not isinstance(value, dict | list)}
        if items and field not in fields:
            raise BadRequest(f"sort: there is no field {field!r} here; give {', '.join(sorted(fields))}", param="sort")
        having = [item for item in items if item.get(field) is not None]
        having.sort(key=lambda item: _key(item[field]), reverse=(self.sort or "").startswith("-"))
        return having + [item for item in items if item.get(field) is None]


def _text(item: Mapping[str, Any]) -> str:
    """Return the texts that are searched, also one level below (a job's arguments)."""
    below = [value for part in item.values() if isinstance(part, dict) for value in part.values()]
    return "\n".join(value for value in [*item.values(), *below] if isinstance(value, str)).casefold()


def _key(value: Any) -> Any:
    return value.casefold() if isinstance(value, str) else value


PageDep = Annotated[Page, Depends()]
