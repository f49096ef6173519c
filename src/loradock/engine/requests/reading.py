"""JSON read as typed messages (msgspec). An error names the field, what is allowed and what was sent."""

import json
from collections.abc import Iterator
from functools import cache
from itertools import islice
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import UNSET, Meta

from loradock.types.errors import BadRequest, NestedTooDeeply
from loradock.types.nesting import check_nesting

Text = Annotated[str, Meta(min_length=1)]
TokenId = Annotated[int, Meta(ge=0)]
_SHOWN = 80
_fields = cache(msgspec.structs.fields)


def present(body: dict[str, Any]) -> dict[str, Any]:
    """Return the fields without what is null, which stands for the default; 12.0 is an integer."""
    return {name: _whole(value) if type(value) is float else value for name, value in body.items() if value is not None}


def read(kind: Any, value: Any, path: str = "") -> Any:
    """The value, UNSET where it is missing, as this type. Raises BadRequest on the first that is wrong inside it."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        for name, inner, member in _members(kind, value):
            read(inner, member, path + name)
        raise wrong(path, value, _allowed(kind)) from None


def wrong(path: str, value: Any, allowed: str) -> BadRequest:
    path = path.removeprefix(".")
    if value is UNSET:
        return BadRequest(f"{path} is missing: it must be {allowed}", param=path)
    shown = msgspec.json.format(msgspec.json.encode(_beginning(value)), indent=0).decode()
    shown = shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}…"
    return BadRequest(f"{path} must be {allowed}, not {shown}", param=path)


def object_in(text: str) -> Any:
    """Return the value of a field's JSON text; None where it is not JSON, or nested too deeply."""
    try:
        content = json.loads(text)
        check_nesting(text.encode(errors="replace"), content)
    except (ValueError, RecursionError, NestedTooDeeply):
        return None
    return content


def _beginning(value: Any, depth: int = 3) -> Any:
    """Return at least as much of the value as is shown: all of it may be megabytes."""
    if isinstance(value, str):
        return value[:_SHOWN]
    if isinstance(value, list | dict) and not depth:
        return "…"
    if isinstance(value, list):
        return [_beginning(item, depth - 1) for item in value[:_SHOWN]]
    if isinstance(value, dict):
        return {name[:_SHOWN]: _beginning(item, depth - 1) for name, item in islice(value.items(), _SHOWN)}
    return value


def _whole(number: float) -> int | float:
    return int(number) if number.is_integer() else number


def _members(kind: Any, value: Any) -> Iterator[tuple[str, Any, Any]]:
    """(name, type, value) of what stands in an object, or in an array whose type is not described as a whole."""
    for option in _options(kind):
        origin, arguments = get_origin(option), get_args(option)
        if isinstance(value, dict) and _is_struct(option):
            for field in _fields(option):
                if field.required or field.encode_name in value:
                    yield f".{field.encode_name}", field.type, value.get(field.encode_name, UNSET)
        elif isinstance(value, dict) and origin is dict:
            yield from ((f".{name}", arguments[1], member) for name, member in value.items())
        elif isinstance(value, list) and origin is list and not _meta(kind).description:
            yield from ((f"[{index}]", arguments[0], member) for index, member in enumerate(value))


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _options(kind: Any) -> tuple[Any, ...]:
    """The types of which a value may be one."""
    if get_origin(kind) is Annotated:
        return _options(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return tuple(option for part in get_args(kind) for option in _options(part))
    return (kind,)


def _meta(kind: Any) -> Meta:
    return next((data for data in getattr(kind, "__metadata__", ()) if isinstance(data, Meta)), Meta())


def _allowed(kind: Any) -> str:
    """Return what errors call the values of a type: its description, a struct's docstring, or what follows from its
    bounds."""
    meta, bare = _meta(kind), get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if meta.description:
        return meta.description
    if get_origin(bare) is Literal:
        names = ", ".join(map(repr, get_args(bare)))
        return f"one of {names}" if len(get_args(bare)) > 1 else names
    if get_origin(bare) in (Union, UnionType):
        return " or ".join(_allowed(part) for part in get_args(bare) if part is not NoneType)
    if bare in (int, float):
        return f"an integer from {meta.ge} to {meta.le}" if bare is int else f"a number from {meta.ge:g} to {meta.le:g}"
    if _is_struct(bare):
        return bare.__doc__ or "an object"
    name = {bool: "true or false", str: "a string", list: "an array"}.get(get_origin(bare) or bare, "an object")
    return f"a non-empty {name.split()[1]}" if meta.min_length else name
