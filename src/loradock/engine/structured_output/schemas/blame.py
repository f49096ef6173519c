"""Finds which property of a prepared schema is at fault, when the grammar library will not have the whole."""

import time
from collections.abc import Callable, Iterator
from typing import Any

Json = dict[str, Any]
_SECONDS = 1.0


def blamed(schema: Json, fails: Callable[[Json], bool]) -> str:
    """The path of the innermost property that fails by itself; empty when it is the whole that does, or when the
    search takes too long.
    """
    definitions = schema.get("$defs", {})
    deadline = time.monotonic() + _SECONDS

    def at_fault(part: Json, where: str, above: frozenset[str]) -> str:
        for child, path, names in _children(part, where, above, definitions):
            if time.monotonic() > deadline:
                break
            if fails({**child, "$defs": definitions}):
                return at_fault(child, path, names)
        return where

    return at_fault(schema, "", frozenset())


def _children(
    part: Json, where: str, above: frozenset[str], definitions: Json
) -> Iterator[tuple[Json, str, frozenset[str]]]:
    name = str(part.get("$ref", "")).removeprefix("#/$defs/")
    found = [(definitions.get(name), where, above | {name})] if name and name not in above else []
    for key, suffix in (("properties", "."), ("patternProperties", ".")):
        found += [
            (child, f"{where}{suffix}{label}" if where else label, above) for label, child in part.get(key, {}).items()
        ]
    found += [(part.get("items"), f"{where}[]", above), (part.get("additionalProperties"), f"{where}.*", above)]
    for key in ("prefixItems", "allOf", "anyOf"):
        found += [(child, where, above) for child in part.get(key, [])]
    return ((child, path, names) for child, path, names in found if isinstance(child, dict))
