"""Finds which prepared schemas have a finite value: one that requires itself inside itself has none."""

from typing import Any

Json = dict[str, Any]


def endless(definitions: Json) -> set[str]:
    """The names of definitions that no finite value fits."""
    graph = _Graph(definitions)
    return set(definitions) - graph.ending()


class _Graph:
    """A graph of every part of the definitions and what it waits for, so that each is looked at once (Dowling, Gallier
    1984: a part ends once all that it needs does, an `anyOf` once one of its alternatives does)."""

    def __init__(self, definitions: Json) -> None:
        self._missing: list[int] = []
        """The number of those that each part needs and that are not known to end."""
        self._users: list[list[int]] = []
        self._of = {name: self._node(needs=1) for name in definitions}
        for name, part in definitions.items():
            self._users[self._part(part)].append(self._of[name])

    def ending(self) -> set[str]:
        """The names of those that end."""
        ended = [node for node, missing in enumerate(self._missing) if missing == 0]
        while ended:
            for user in self._users[ended.pop()]:
                self._missing[user] -= 1
                if self._missing[user] == 0:  # fewer: another alternative ended before
                    ended.append(user)
        return {name for name, node in self._of.items() if self._missing[node] <= 0}

    def _node(self, needs: int) -> int:
        self._missing.append(needs)
        self._users.append([])
        return len(self._missing) - 1

    def _part(self, part: Any) -> int:
        if isinstance(part, bool):
            return self._node(needs=0 if part else 1)
        needed = [self._part(one) for one in [*part.get("allOf", []), *_inside(part)]]
        if "$ref" in part:
            name = part["$ref"].removeprefix("#/$defs/")
            needed.append(self._of[name] if name in self._of else self._node(needs=1))
        if "anyOf" in part:
            one_of = self._node(needs=1)
            for alternative in part["anyOf"]:
                self._users[self._part(alternative)].append(one_of)
            needed.append(one_of)
        node = self._node(needs=len(needed))
        for other in needed:
            self._users[other].append(node)
        return node


def _inside(part: Json) -> list[Any]:
    """Return the parts that every value of the schema has inside."""
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
