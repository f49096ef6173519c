"""Which property of a prepared schema is at fault, when the grammar library will not have the whole."""

from collections.abc import Callable, Iterator
from typing import Any

Json = dict[str, Any]
_MOST = 100


def blamed(schema: Json, fails: Callable[[Json], bool]) -> str:
    """The path of the innermost property that fails by itself; empty when it is the whole that does."""
    definitions = schema.get("$defs", {})
    left = _MOST

    def at_fault(part: Json, where: str, above: frozenset[str]) -> str:
        nonlocal left
        for child, path, names in _children(part, where, above, definitions):
            left -= 1
            if left < 0:
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
