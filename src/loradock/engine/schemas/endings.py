"""Which prepared schemas have a finite value: one that requires itself inside itself has none."""

from typing import Any

Json = dict[str, Any]


def endless(definitions: Json) -> set[str]:
    """The names of definitions that no finite value fits."""
    ending: set[str] = set()
    while more := {name for name, part in definitions.items() if name not in ending and ends(part, ending)}:
        ending |= more
    return set(definitions) - ending


def ends(part: Any, ending: set[str]) -> bool:
    """Whether a finite value may fit, given the definitions that have one."""
    if isinstance(part, bool):
        return part
    if "$ref" in part and part["$ref"].removeprefix("#/$defs/") not in ending:
        return False
    if "anyOf" in part and not any(ends(one, ending) for one in part["anyOf"]):
        return False
    return all(ends(one, ending) for one in [*part.get("allOf", []), *_inside(part)])


def _inside(part: Json) -> list[Any]:
    """What every value of the schema has inside."""
    if part.get("type") == "object":
        named = part.get("properties", {})
        return [named[name] for name in part.get("required", []) if name in named]
    if part.get("type") == "array":
        first = part.get("prefixItems", [])[: part.get("minItems", 0)]
        return [*first, *([part["items"]] if "items" in part and part.get("minItems", 0) > len(first) else [])]
    return []


def pruned(part: Any, dead: set[str]) -> Any:
    """The same with false in place of references that lead nowhere."""
    if isinstance(part, list):
        return [pruned(one, dead) for one in part]
    if not isinstance(part, dict):
        return part
    if isinstance(name := part.get("$ref"), str) and name in dead:
        return False
    return {key: value if key in ("const", "enum") else pruned(value, dead) for key, value in part.items()}
