"""The form that the output must have: `response_format`, and what other servers call the same."""

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta

from loradock.engine.requests.reading import Text, object_in, read, wrong
from loradock.engine.tool_calls.tool_forms import ToolForm
from loradock.types.errors import BadRequest

MAX_CHOICES = 1000
MAX_CHARACTERS = 1 << 18
"""The limit of all choices together. Python escapes five million a second, and everybody waits meanwhile."""

_CHOICES = f"an array of 1 to {MAX_CHOICES} non-empty strings"
_Choices = Annotated[list[Text], Meta(min_length=1, max_length=MAX_CHOICES, description=_CHOICES)]


class Constraint(msgspec.Struct, frozen=True):
    """The output must be JSON of `schema`, a match of `regex`, a sentence of `grammar` (Lark or GBNF), or, with
    `tools`, a call of one of them, written in `form`. `param` is the parameter that wants it."""

    param: str
    schema: dict[str, Any] | None = None
    regex: str | None = None
    grammar: str | None = None
    tools: tuple[dict[str, Any], ...] = ()
    form: ToolForm | None = None


class _Format(msgspec.Struct):
    """an object {type, …}"""  # what else it must have depends on its type

    type: Literal["text", "json_object", "json_schema", "regex", "grammar"]


class _NamedSchema(msgspec.Struct):
    schema: Annotated[dict[str, Any], Meta(description="a JSON schema object")]


class _Grammar(msgspec.Struct):
    """an object {type, value}"""

    type: Literal["json", "json_schema", "regex"]


def read_constraint(given: dict[str, Any]) -> Constraint | None:
    """None for free text. Raises BadRequest, also for two of them; whether one can be followed is the grammar's to
    say."""
    found = [read_one(given[name], name) for name, read_one in _READERS.items() if name in given]
    wanted = [constraint for constraint in found if constraint is not None]
    if len(wanted) > 1:
        names = " and ".join(constraint.param for constraint in wanted[:2])
        raise BadRequest(f"{names} cannot be combined: give one form for the output", param=wanted[1].param)
    return wanted[0] if wanted else None


def _response_format(value: Any, path: str) -> Constraint | None:
    match read(_Format, value, path).type:
        case "text":
            return None
        case "regex":
            return _regex(value.get("pattern", UNSET), f"{path}.pattern")
        case "grammar":
            text = read(Text, value.get("grammar", UNSET), f"{path}.grammar")
            return Constraint(f"{path}.grammar", grammar=text)
        case "json_schema":
            path = f"{path}.json_schema"
            named = read(_NamedSchema, value.get("json_schema", UNSET), path)
            return Constraint(f"{path}.schema", schema=named.schema)
    schema = read(dict[str, Any] | None, value.get("schema"), f"{path}.schema")
    return Constraint(path, schema=schema or {"type": "object"})


def _structured_outputs(value: Any, path: str) -> Constraint | None:
    """vLLM's object of all kinds (https://docs.vllm.ai/en/latest/features/structured_outputs.html)."""
    given = read(dict[str, Any], value, path)
    for option in ("structural_tag", "whitespace_pattern", "disable_any_whitespace", "disable_additional_properties"):
        if given.get(option) not in (None, False, ""):
            raise BadRequest(f"{path}.{option} is not supported: leave it out", param=f"{path}.{option}")
    kinds = [kind for kind in _KINDS if given.get(kind) not in (None, False)]
    if len(kinds) > 1:
        raise BadRequest(f"{path}: {' and '.join(kinds)} cannot be combined", param=path)
    if not kinds:
        raise BadRequest(f"{path} must hold one of {', '.join(map(repr, _KINDS))}", param=path)
    return _KINDS[kinds[0]](given[kinds[0]], f"{path}.{kinds[0]}")


def _schema(value: Any, path: str) -> Constraint:
    """An object, or its JSON text."""
    schema = object_in(value) if isinstance(value, str) else value
    schema = {} if schema is True else schema
    if not isinstance(schema, dict):
        raise wrong(path, value, "a JSON schema: an object, or its JSON text")
    return Constraint(path, schema=schema)


def _object(value: Any, path: str) -> Constraint | None:
    return Constraint(path, schema={"type": "object"}) if read(bool, value, path) else None


def _regex(value: Any, path: str) -> Constraint:
    return Constraint(path, regex=read(Text, value, path))


def _choice(value: Any, path: str) -> Constraint:
    texts = read(_Choices, value, path)
    if sum(map(len, texts)) > MAX_CHARACTERS:
        raise wrong(path, value, f"an array of strings of at most {MAX_CHARACTERS} characters together")
    return Constraint(path, regex="|".join(map(re.escape, texts)))


def _grammar(value: Any, path: str) -> Constraint:
    """A grammar's text, or the object of text-generation-inference: {type, value}."""
    if not isinstance(value, dict):
        return Constraint(path, grammar=read(Text, value, path))
    kind = _regex if read(_Grammar, value, path).type == "regex" else _schema
    return kind(value.get("value", UNSET), f"{path}.value")


_Reader = Callable[[Any, str], Constraint | None]
_KINDS: dict[str, _Reader] = {
    "json": _schema,
    "regex": _regex,
    "choice": _choice,
    "grammar": _grammar,
    "json_object": _object,
}
_READERS: dict[str, _Reader] = {
    "response_format": _response_format,
    "structured_outputs": _structured_outputs,
    **{f"guided_{kind}": reader for kind, reader in _KINDS.items()},
    "json_schema": _schema,
    "regex": _regex,
    "ebnf": _grammar,
    "grammar": _grammar,
}
"""The names of vLLM (`guided_…`, until 0.12), SGLang, llama.cpp and text-generation-inference."""
