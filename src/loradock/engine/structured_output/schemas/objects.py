"""Reads what a schema says about the properties of an object."""

import re
from typing import Any, Protocol

from loradock.engine.structured_output.schemas.errors import Unfollowable
from loradock.engine.structured_output.schemas.keywords import shown

Json = dict[str, Any]
_LITERALS = re.compile(r"\^(?:([\w -]+)|\((?:\?:)?([\w -]+(?:\|[\w -]+)*)\))\$")
"""A pattern that is but names: `^score$`, `^(a|b)$`."""

_HEX = "[0-9a-fA-F]"
_DATE = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_NAME_FORMATS = {
    "uuid": f"^{_HEX}{{8}}(-{_HEX}{{4}}){{3}}-{_HEX}{{12}}$",
    "date": f"^{_DATE}$",
    "time": f"^{_TIME}$",
    "date-time": f"^{_DATE}T{_TIME}$",
}
"""The patterns of formats that Pydantic and zod write for a mapping's keys; names can follow only patterns."""


class Preparation(Protocol):
    """Prepares the parts of a schema."""

    def schema(self, node: Any, where: str) -> Json | bool: ...
    def resolved(self, made: Json | bool) -> Json | bool: ...
    def found(self, pattern: str, text: str, where: str) -> bool: ...


def prepare_object(preparation: Preparation, node: Json, where: str) -> Json:
    """Raises Unfollowable."""
    parts = _Properties(preparation, node, where)
    if "propertyNames" in node:
        parts.limit_names(preparation.resolved(preparation.schema(node["propertyNames"], where)))
    return parts.made()


class _Properties:
    def __init__(self, preparation: Preparation, node: Json, where: str) -> None:
        self._preparation = preparation
        self._where = where
        self._named = {
            name: preparation.schema(part, f"{where}.{name}" if where else name)
            for name, part in _mapping(node, "properties", where).items()
        }
        self._patterns: Json = {}
        self._required = _names(node, where)
        others = node.get("additionalProperties", node.get("unevaluatedProperties"))
        self._others = None if others is None else preparation.schema(others, f"{where}.*" if where else "*")
        for pattern, part in _mapping(node, "patternProperties", where).items():
            self._add_pattern(pattern, preparation.schema(part, f"{where}.{pattern}" if where else pattern))

    def _add_pattern(self, pattern: str, part: Json | bool) -> None:
        """A property that is named and also fits a pattern is held to both."""
        literals = _LITERALS.fullmatch(pattern)
        if literals is not None:
            for name in (literals[1] or literals[2]).split("|"):
                self._named[name] = _both(self._named[name], part) if name in self._named else part
            return
        self._preparation.found(pattern, "", self._where)
        self._patterns[pattern] = part
        for name, own in self._named.items():
            if self._preparation.found(pattern, name, self._where):
                self._named[name] = _both(own, part)

    def limit_names(self, names: Json | bool) -> None:
        """`names` is the prepared schema of all names."""
        if names is True or (isinstance(names, dict) and set(names) <= {"type"} and _of_text(names)):
            return
        if isinstance(names, dict) and _of_text(names) and not self._patterns:
            listed = [names["const"]] if "const" in names else names.get("enum")
            if listed is not None and set(names) <= {"type", "const", "enum"}:
                self._list_names([name for name in listed if isinstance(name, str)])
                return
            pattern = _name_pattern(names)
            if pattern is not None and not self._named:
                self._preparation.found(pattern, "", self._where)
                self._patterns = {pattern: True if self._others is None else self._others}
                self._others = False
                return
        raise Unfollowable(self._where, "propertyNames can be followed only as a list of names or as a pattern")

    def _list_names(self, names: list[str]) -> None:
        others = True if self._others is None else self._others
        self._named = {name: part if name in names else False for name, part in self._named.items()}
        self._named = {**self._named, **{name: others for name in names if name not in self._named}}
        self._others = False

    def made(self) -> Json:
        made: Json = {}
        if self._named:
            made["properties"] = self._named
        if self._patterns:
            made["patternProperties"] = self._patterns
        if self._others is not None:
            made["additionalProperties"] = self._others
        if self._required:
            made["required"] = self._required
        return made


def _mapping(node: Json, name: str, where: str) -> Json:
    value = node.get(name, {})
    if not isinstance(value, dict):
        raise Unfollowable(where, f"{name} must be an object of schemas, not {shown(value)}")
    return value


def _names(node: Json, where: str) -> list[str]:
    value = node.get("required", [])
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise Unfollowable(where, f"required must be an array of property names, not {shown(value)}")
    return list(dict.fromkeys(value))


def _both(first: Json | bool, second: Json | bool) -> Json | bool:
    if first is True or second is True:
        return second if first is True else first
    return False if first is False or second is False else {"allOf": [first, second]}


def _of_text(names: Json) -> bool:
    types = names.get("type", "string")
    return "string" in (types if isinstance(types, list) else [types])


def _name_pattern(names: Json) -> str | None:
    keys = set(names) - {"type"}
    if keys in ({"pattern"}, {"pattern", "format"}):  # the format is a remark beside its pattern
        return str(names["pattern"])
    if keys == {"format"}:
        return _NAME_FORMATS.get(names["format"])
    if keys and keys <= {"minLength", "maxLength"}:
        return f"^.{{{names.get('minLength', 0)},{names.get('maxLength', '')}}}$"
    return None
