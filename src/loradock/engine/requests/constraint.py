"""What form the output must have: `response_format`, and what other servers call the same."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loradock.engine.requests.fields import Fields, object_in
from loradock.engine.tool_calls.tool_forms import ToolForm
from loradock.types.errors import BadRequest

MAX_CHOICES = 1000
MAX_CHARACTERS = 1 << 18
"""Of all choices together. Python escapes five million a second, and everybody waits meanwhile."""


@dataclass(frozen=True)
class Constraint:
    """The output must be JSON of `schema`, a match of `regex`, a sentence of `grammar` (Lark or GBNF), or, with
    `tools`, a call of one of them, written in `form`. `param` is the parameter that wants it."""

    param: str
    schema: dict[str, Any] | None = None
    regex: str | None = None
    grammar: str | None = None
    tools: tuple[dict[str, Any], ...] = ()
    form: ToolForm | None = None


def read_constraint(fields: Fields) -> Constraint | None:
    """None for free text. Raises BadRequest, also for two of them; whether one can be followed is the grammar's to
    say."""
    found = [read(fields, name) for name, read in _READERS.items() if name in fields]
    wanted = [constraint for constraint in found if constraint is not None]
    if len(wanted) > 1:
        names = " and ".join(constraint.param for constraint in wanted[:2])
        raise BadRequest(f"{names} cannot be combined: give one form for the output", param=wanted[1].param)
    return wanted[0] if wanted else None


def _response_format(fields: Fields, name: str) -> Constraint | None:
    inner = fields.inner(name)
    if "type" not in inner:
        raise inner.wrong("type", "one of 'text', 'json_object', 'json_schema', 'regex', 'grammar'")
    kind = inner.choice("type", "text", ("text", "json_object", "json_schema", "regex", "grammar"))
    if kind == "text":
        return None
    if kind == "regex":
        return Constraint(f"{name}.pattern", regex=inner.string("pattern"))
    if kind == "grammar":
        return Constraint(f"{name}.grammar", grammar=inner.string("grammar"))
    if kind == "json_object":
        return Constraint(name, schema=inner.mapping("schema") or {"type": "object"})
    schema = inner.inner("json_schema")
    if not isinstance(schema.raw("schema"), dict):
        raise schema.wrong("schema", "a JSON schema object")
    return Constraint(f"{name}.json_schema.schema", schema=schema.mapping("schema"))


def _structured_outputs(fields: Fields, name: str) -> Constraint | None:
    """vLLM's object of all kinds (https://docs.vllm.ai/en/latest/features/structured_outputs.html)."""
    inner = fields.inner(name)
    for option in ("structural_tag", "whitespace_pattern", "disable_any_whitespace", "disable_additional_properties"):
        if inner.raw(option) not in (None, False, ""):
            raise BadRequest(f"{name}.{option} is not supported: leave it out", param=f"{name}.{option}")
    kinds = [kind for kind in _KINDS if inner.raw(kind) not in (None, False)]
    if len(kinds) > 1:
        raise BadRequest(f"{name}: {' and '.join(kinds)} cannot be combined", param=name)
    if not kinds:
        raise BadRequest(f"{name} must hold one of {', '.join(map(repr, _KINDS))}", param=name)
    return _KINDS[kinds[0]](inner, kinds[0])


def _schema(fields: Fields, name: str) -> Constraint:
    """An object, or its JSON text."""
    value = fields.raw(name)
    if isinstance(value, str):
        value = object_in(value)
    if value is True:
        value = {}
    if not isinstance(value, dict):
        raise fields.wrong(name, "a JSON schema: an object, or its JSON text")
    return Constraint(fields.path(name), schema=value)


def _object(fields: Fields, name: str) -> Constraint | None:
    return Constraint(fields.path(name), schema={"type": "object"}) if fields.boolean(name) else None


def _regex(fields: Fields, name: str) -> Constraint:
    return Constraint(fields.path(name), regex=fields.string(name))


def _choice(fields: Fields, name: str) -> Constraint:
    texts = fields.array(name)
    if not 0 < len(texts) <= MAX_CHOICES or not all(isinstance(text, str) and text for text in texts):
        raise fields.wrong(name, f"an array of 1 to {MAX_CHOICES} non-empty strings")
    if sum(map(len, texts)) > MAX_CHARACTERS:
        raise fields.wrong(name, f"an array of strings of at most {MAX_CHARACTERS} characters together")
    return Constraint(fields.path(name), regex="|".join(map(re.escape, texts)))


def _grammar(fields: Fields, name: str) -> Constraint:
    """A grammar's text, or the object of text-generation-inference: {type, value}."""
    if not isinstance(fields.raw(name), dict):
        return Constraint(fields.path(name), grammar=fields.string(name))
    inner = fields.inner(name)
    kind = inner.choice("type", None, ("json", "json_schema", "regex"))
    if kind is None:
        raise inner.wrong("type", "one of 'json', 'regex'")
    return _regex(inner, "value") if kind == "regex" else _schema(inner, "value")


_Reader = Callable[[Fields, str], Constraint | None]
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
    "guided_json": _schema,
    "guided_json_object": _object,
    "guided_regex": _regex,
    "guided_choice": _choice,
    "guided_grammar": _grammar,
    "json_schema": _schema,
    "regex": _regex,
    "ebnf": _grammar,
    "grammar": _grammar,
}
"""The names of vLLM (`guided_…`, until 0.12), SGLang, llama.cpp and text-generation-inference."""
