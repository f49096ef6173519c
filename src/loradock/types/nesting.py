"""Limits how deep arrays and objects may stand inside each other. Far less than where Python's own recursion ends, so
that whatever walks through them afterwards gets to their end."""

from typing import Any

from loradock.types.errors import MAX_NESTING, NestedTooDeeply


def check_nesting(text: bytes, content: Any) -> None:
    """Raises NestedTooDeeply. `text` is what `content` was read from: few brackets need no further look."""
    if text.count(b"[") + text.count(b"{") <= MAX_NESTING:
        return
    level, depth = [content], 0
    while level:
        depth += 1
        if depth > MAX_NESTING + 1:
            raise NestedTooDeeply
        level = [inner for outer in level for inner in _containers(outer)]


def _containers(outer: Any) -> list[Any]:
    values = outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ()
    return [value for value in values if isinstance(value, dict | list)]
