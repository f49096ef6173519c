"""Whether a value can fit two prepared schemas at once."""

import json
from typing import Any

Json = dict[str, Any]
_DEEPEST = 12
_MOST = 400_000
"""Comparisons of two schemas or of two values, which take some microseconds each, in one whole schema."""
_COMPARED_AT_ONCE = 256
"""Characters of a value, about."""


class Overlap:
    """`definitions` are what references of the schemas point at."""

    def __init__(self, definitions: Json) -> None:
        self._definitions = definitions
        self._compared = 0

    @property
    def spent(self) -> bool:
        return self._compared > _MOST

    def exclude_each_other(self, parts: list[Json | bool]) -> bool:
        """False also when it would take too long to tell; `spent` says so."""
        lists = [_values(part) if isinstance(part, dict) else None for part in parts]
        if all(lists) and _distinct([value for values in lists for value in values or ()]):
            return True  # as nearly all long ones are
        return all(self._apart(one, other, 0) for i, one in enumerate(parts) for other in parts[i + 1 :])

    def _apart(self, one: Any, other: Any, depth: int) -> bool:
        """True only when it is certain that nothing fits both."""
        self._compared += 1
        if isinstance(one, bool) or isinstance(other, bool):
            return one is False or other is False
        if depth > _DEEPEST or self._compared > _MOST:
            return False
        if any(self._resolves_apart(*pair, depth + 1) for pair in ((one, other), (other, one))):
            return True
        return not _types(one) & _types(other) or self._differ_in_a_property(one, other, depth)

    def _resolves_apart(self, one: Json, other: Json, depth: int) -> bool:
        if "$ref" in one and self._apart(self._definitions.get(_name(one), True), other, depth):
            return True
        if any(self._apart(part, other, depth) for part in one.get("allOf", [])):
            return True
        if "anyOf" in one and all(self._apart(part, other, depth) for part in one["anyOf"]):
            return True
        values = _values(one)
        return values is not None and self._none_fits(values, other)

    def _none_fits(self, values: list[Any], part: Json) -> bool:
        listed = _values(part)
        self._compared += _weight(values) + _weight(listed or [])
        if self._compared > _MOST:
            return False
        types = _types(part)
        allowed = None if listed is None else set(map(_key, listed))
        return not any(_type(value) in types and (allowed is None or _key(value) in allowed) for value in values)

    def _differ_in_a_property(self, one: Json, other: Json, depth: int) -> bool:
        if _types(one) != {"object"} or _types(other) != {"object"}:
            return False
        for name in {*one.get("required", []), *other.get("required", [])}:
            if self._apart(_property(one, name), _property(other, name), depth + 1):
                return True
        return False


def _name(part: Json) -> str:
    return str(part["$ref"]).removeprefix("#/$defs/")


def _property(part: Json, name: str) -> Any:
    if name in part.get("properties", {}):
        return part["properties"][name]
    return True if part.get("patternProperties") else part.get("additionalProperties", True)


def _values(part: Json) -> list[Any] | None:
    return [part["const"]] if "const" in part else part.get("enum")


def _weight(values: list[Any]) -> int:
    """Return the cost of comparing these: long texts, arrays and objects count for more."""
    long = (len(_key(value)) for value in values if isinstance(value, str | list | dict))
    return len(values) + sum(length // _COMPARED_AT_ONCE for length in long)


def _distinct(values: list[Any]) -> bool:
    return len(set(map(_key, values))) == len(values)


def _key(value: Any) -> str:
    """The same for equal values; to JSON 1 and 1.0 are equal, 1 and true are not."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)


def _types(part: Json) -> set[str]:
    """Whole numbers are told from others only where one of both is an integer."""
    types = part.get("type", ["null", "boolean", "number", "string", "array", "object"])
    found = set(types) if isinstance(types, list) else {types}
    return found | {"integer"} if "number" in found else found


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if value is None or isinstance(value, str):
        return "null" if value is None else "string"
    if isinstance(value, list | dict):
        return "array" if isinstance(value, list) else "object"
    return "integer" if isinstance(value, int) or value.is_integer() else "number"
