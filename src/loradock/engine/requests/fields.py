"""Reading a JSON object's fields: type and bounds checked, every complaint naming the field and what is allowed."""

import json
from collections.abc import Mapping
from itertools import islice
from typing import Any, TypeVar

from loradock.types.errors import BadRequest, NestedTooDeeply
from loradock.types.nesting import check_nesting

Default = TypeVar("Default")
_SHOWN = 80


class Fields:
    """A field that is absent or null has its default. Every method raises BadRequest with `param` set."""

    def __init__(self, body: Mapping[str, Any], where: str = "") -> None:
        self._body = body
        self._where = where

    def __contains__(self, name: str) -> bool:
        return self._body.get(name) is not None

    def raw(self, name: str) -> Any:
        return self._body.get(name)

    def path(self, name: str) -> str:
        """How errors call the field."""
        return self._where + name

    def wrong(self, name: str, allowed: str) -> BadRequest:
        """The complaint about a field's present value."""
        path = self.path(name)
        if name not in self._body:
            return BadRequest(f"{path} is missing: it must be {allowed}", param=path)
        return BadRequest(f"{path} must be {allowed}, not {_show(self._body[name])}", param=path)

    def number(self, name: str, default: Default, low: float, high: float) -> float | Default:
        value = self._body.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.wrong(name, f"a number from {low:g} to {high:g}")
        return float(value)

    def integer(self, name: str, default: Default, low: int, high: int) -> int | Default:
        value = self._body.get(name)
        if value is None:
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.wrong(name, f"an integer from {low} to {high}")
        return value

    def boolean(self, name: str, default: bool = False) -> bool:
        value = self._body.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def string(self, name: str) -> str:
        """A required, non-empty string."""
        value = self._body.get(name)
        if not isinstance(value, str) or not value:
            raise self.wrong(name, "a non-empty string")
        return value

    def choice(self, name: str, default: Default, allowed: tuple[str, ...]) -> str | Default:
        value = self._body.get(name)
        if value is None:
            return default
        if value not in allowed:
            raise self.wrong(name, "one of " + ", ".join(map(repr, allowed)))
        return str(value)

    def mapping(self, name: str) -> dict[str, Any]:
        value = self._body.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return value

    def array(self, name: str) -> list[Any]:
        value = self._body.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(name, "an array")
        return value

    def token_ids(self, name: str) -> list[int]:
        """Each once: millions may have been sent."""
        values = self.array(name)
        if not all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in values):
            raise self.wrong(name, "an array of token ids")
        return list(dict.fromkeys(values))

    def inner(self, name: str) -> "Fields":
        """The fields of an object inside this one."""
        return Fields(self.mapping(name), f"{self.path(name)}.")


def object_in(text: str) -> Any:
    """What a field's JSON text says; None where it is not JSON, or nested too deeply."""
    try:
        content = json.loads(text)
        check_nesting(text.encode(errors="replace"), content)
    except (ValueError, RecursionError, NestedTooDeeply):
        return None
    return content


def _show(value: Any) -> str:
    text = json.dumps(_beginning(value), ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "…"


def _beginning(value: Any, depth: int = 3) -> Any:
    """At least as much of it as is shown: all of it may be megabytes."""
    if isinstance(value, str):
        return value[:_SHOWN]
    if isinstance(value, list | dict) and not depth:
        return "…"
    if isinstance(value, list):
        return [_beginning(item, depth - 1) for item in value[:_SHOWN]]
    if isinstance(value, dict):
        return {name[:_SHOWN]: _beginning(item, depth - 1) for name, item in islice(value.items(), _SHOWN)}
    return value
