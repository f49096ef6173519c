"""The keywords of a schema that stand for themselves: what is kept, what means nothing, and what is refused by name."""

import math
import re
from typing import Any

from loradock.engine.structured_output.schemas.errors import Unfollowable

Json = dict[str, Any]
TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
"""The formats that are followed. By JSON Schema 2020-12 all others are remarks, which bind nobody."""
_UUID_OF_VERSION = re.compile("uuid([1-8])")  # as Pydantic writes UUID4
_COMBINING = ("allOf", "anyOf", "oneOf", "$ref", "$dynamicRef", "$recursiveRef")
_CONDITIONS = ("dependentRequired", "dependentSchemas", "dependencies")


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "…"


def refuse(node: Json, where: str) -> None:
    """Raises Unfollowable for what asks for more than a grammar can see to. What asks for nothing passes."""
    asked = [name for name in _CONDITIONS if node.get(name)]
    if node.get("uniqueItems"):
        asked.append("uniqueItems")
    if "not" in node and node["not"] is not False:
        asked.append("not")
    if "if" in node and ("then" in node or "else" in node):
        asked.append("if/then/else")
    if "contains" in node and (node.get("minContains", 1) != 0 or "maxContains" in node):
        asked.append("contains")
    for name in ("unevaluatedProperties", "unevaluatedItems"):
        # Without others that combine schemas it is what is said of additional ones.
        if name in node and node[name] not in (True, {}) and any(other in node for other in _COMBINING):
            asked.append(name)
    if asked:
        raise Unfollowable(
            where, f"{' and '.join(asked)} cannot be followed: leave it out and check the answer instead"
        )


def plain(node: Json, where: str) -> Json:
    """Types, constants, bounds, patterns and formats, checked. Raises Unfollowable."""
    made: Json = {}
    if "type" in node:
        made["type"] = _types(node["type"], where)
    if "const" in node:
        made["const"] = node["const"]
    if "enum" in node:
        if not isinstance(node["enum"], list):
            raise Unfollowable(where, "enum must be an array")
        made["enum"] = node["enum"]
    for name in _NUMBERS:
        if name in node:
            made |= _bound(node, name, where)
    for name in _COUNTS:
        if name in node:
            made[name] = _count(node[name], name, where)
    return made | _text(node, where)


def branches(node: Json, name: str, where: str) -> list[Any]:
    parts = node[name]
    if not isinstance(parts, list) or not parts:
        raise Unfollowable(where, f"{name} must be an array of schemas with at least one")
    return parts


def _types(value: Any, where: str) -> Any:
    types = value if isinstance(value, list) else [value]
    for one in types:
        if one not in TYPES:
            raise Unfollowable(where, f"type must be one of {', '.join(TYPES)}, or an array of them, not {shown(one)}")
    return value


def _bound(node: Json, name: str, where: str) -> Json:
    value = node[name]
    if isinstance(value, bool) and name.startswith("exclusive"):  # as draft 4 has it, beside the bound itself
        beside = name.removeprefix("exclusive").lower()
        return {name: node[beside]} if value and _is_number(node.get(beside)) else {}
    if not _is_number(value) or (name == "multipleOf" and value <= 0):
        raise Unfollowable(where, f"{name} must be a number{' above 0' if name == 'multipleOf' else ''}")
    return {name: value}


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _count(value: Any, name: str, where: str) -> int:
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(whole, bool) or not isinstance(whole, int) or not 0 <= whole < 2**31:
        raise Unfollowable(where, f"{name} must be a whole number from 0 to {2**31 - 1}")
    return whole


def _text(node: Json, where: str) -> Json:
    made: Json = {}
    for name in ("pattern", "format"):
        if name in node and not isinstance(node[name], str):
            raise Unfollowable(where, f"{name} must be a string")
    if "pattern" in node:
        made["pattern"] = node["pattern"]
    form = node.get("format")
    if form in FORMATS:
        made["format"] = form
    elif form is not None and (version := _UUID_OF_VERSION.fullmatch(form)) and "pattern" not in node:
        hexes = "[0-9a-fA-F]"
        made["pattern"] = f"^{hexes}{{8}}-{hexes}{{4}}-{version[1]}{hexes}{{3}}-[89abAB]{hexes}{{3}}-{hexes}{{12}}$"
    return made
