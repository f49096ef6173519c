"""`response_format`: what form the output must have."""

from dataclasses import dataclass
from typing import Any

from loradock.engine.requests.fields import Fields


@dataclass(frozen=True)
class Constraint:
    """The output must be JSON of `schema`, or, with `tools`, a call of one of them."""

    param: str
    schema: dict[str, Any] | None = None
    tools: tuple[dict[str, Any], ...] = ()


def read_response_format(fields: Fields) -> Constraint | None:
    """None for free text. Raises BadRequest; whether the schema can be followed is the grammar's to say."""
    if "response_format" not in fields:
        return None
    inner = fields.inner("response_format")
    if "type" not in inner:
        raise inner.wrong("type", "one of 'text', 'json_object', 'json_schema'")
    kind = inner.choice("type", "text", ("text", "json_object", "json_schema"))
    if kind == "text":
        return None
    if kind == "json_object":
        return Constraint("response_format", inner.mapping("schema") or {"type": "object"})
    schema = inner.inner("json_schema")
    if not isinstance(schema.raw("schema"), dict):
        raise schema.wrong("schema", "a JSON schema object")
    return Constraint("response_format.json_schema.schema", schema.mapping("schema"))
