"""Requests as vLLM understands them, so that one means the same there as on our own engine.

vLLM ignores every parameter that it does not know, `guided_json` and its like among them (since 0.12). So the names are
looked at here: one pass over the body that leaves all values but small ones as they are.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from loradock.gateway.proxy.request import BROKEN, broken
from loradock.types.errors import BadRequest
from loradock.types.parameters import PARAMETERS, Handling, check

_NULL = b"null"
_FORMS = {
    "guided_json": "json",
    "guided_json_object": "json_object",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
    "json_schema": "json",
    "regex": "regex",
    "ebnf": "grammar",
}
"""Other names of a form for the output → a member of vLLM's `structured_outputs`."""

Fields = dict[str, msgspec.Raw]
_FIELDS = msgspec.json.Decoder(Fields)  # one for all: making it costs more than a small request


def for_vllm(body: bytes, model: str, *, chat: bool) -> tuple[bytes, list[str]]:
    """The body for this model name, and the remarks on it. Raises BadRequest on what is refused everywhere."""
    try:
        return _for_vllm(body, model, chat=chat)
    except BROKEN as error:
        raise broken(error) from None


def _for_vllm(body: bytes, model: str, *, chat: bool) -> tuple[bytes, list[str]]:
    fields: Fields = _FIELDS.decode(body)
    others = [name for name in fields if name not in _SAID_ALIKE[chat]]
    if not others and _decode(fields["model"]) == model:
        return body, []
    remarks = check({name: _looked_at(name, fields[name]) for name in others}, chat=chat) if others else []
    for name in others:
        if _handling(name) is Handling.REMARKED:
            del fields[name]  # some vLLM would apply
        elif name in _SAID_OTHERWISE and bytes(fields[name]) != _NULL:
            _SAID_OTHERWISE[name](fields, name)
    return msgspec.json.encode({**fields, "model": model}), remarks


def _looked_at(name: str, raw: msgspec.Raw) -> Any:
    """A value whose name alone does not tell what becomes of it; True for others that are given."""
    if bytes(raw) == _NULL:
        return None
    return _decode(raw) if _handling(name) in (Handling.REFUSED, Handling.REMARKED) else True


def _handling(name: str) -> Handling | None:
    known = PARAMETERS.get(name)
    return known.handling if known else None


def _form(fields: Fields, name: str) -> None:
    value = fields.pop(name)
    if name != "guided_json_object" or _decode(value) is not False:
        _structured(fields, name, {_FORMS[name]: value})


def _grammar(fields: Fields, name: str) -> None:
    """A grammar's text, or the object of text-generation-inference: {type, value}."""
    value = _decode(fields.pop(name))
    if isinstance(value, dict):
        kind = {"json": "json", "json_schema": "json", "regex": "regex"}.get(str(value.get("type")))
        if kind is None or "value" not in value:
            raise BadRequest("grammar must be a grammar's text, or {type: 'json' or 'regex', value}", param=name)
        _structured(fields, name, {kind: value["value"]})
    else:
        _structured(fields, name, {"grammar": value})


def _response_format(fields: Fields, name: str) -> None:
    """Kinds and members of other servers. The rest is vLLM's own."""
    value = _decode(fields[name])
    if not isinstance(value, dict):
        return
    kind = value.get("type")
    wanted = {"regex": ("regex", "pattern"), "grammar": ("grammar", "grammar"), "json_object": ("json", "schema")}
    form, member = wanted.get(kind, ("", "")) if isinstance(kind, str) else ("", "")
    if value.get(member):
        del fields[name]
        _structured(fields, name, {form: value[member]})


def _structured(fields: Fields, name: str, form: dict[str, Any]) -> None:
    for other in ("structured_outputs", "response_format"):
        if other in fields and _decode(fields[other]) not in (None, {"type": "text"}):
            raise BadRequest(f"{name} and {other} cannot be combined: give one form for the output", param=name)
    fields["structured_outputs"] = _raw(form)


def _no_stop_trim(fields: Fields, name: str) -> None:
    fields["include_stop_str_in_output"] = fields.pop(name)


def _continue(fields: Fields, name: str) -> None:
    """vLLM begins a new answer unless told otherwise, and does not do both."""
    if _decode(fields[name]) is True:
        fields.setdefault("add_generation_prompt", _raw(False))


def _reasoning(fields: Fields, name: str) -> None:
    value = _decode(fields.pop(name))
    if not isinstance(value, dict):
        raise BadRequest("reasoning must be an object {enabled, effort}", param=name)
    if value.get("effort") is not None:
        fields["reasoning_effort"] = _raw(value["effort"])
    kwargs = _decode(fields["chat_template_kwargs"]) if "chat_template_kwargs" in fields else None
    if kwargs is not None and not isinstance(kwargs, dict):
        raise BadRequest("chat_template_kwargs must be an object", param="chat_template_kwargs")
    for member in ("max_tokens", "exclude"):
        if value.get(member) not in (None, False):
            raise BadRequest(f"reasoning.{member} is not supported: leave it out", param=f"reasoning.{member}")
    enabled = value.get("enabled")
    enabled = value.get("effort") != "none" if enabled is None else enabled
    fields["chat_template_kwargs"] = _raw({"enable_thinking": enabled, **(kwargs or {})})


def _best_of(fields: Fields, name: str) -> None:
    n = _decode(fields["n"]) if "n" in fields else None
    if _decode(fields.pop(name)) != (1 if n is None else n):
        raise BadRequest("best_of is not supported beyond n: leave it out", param=name)


def _context(fields: Fields, name: str) -> None:
    if _decode(fields.pop(name)) == "truncate":
        raise BadRequest(f"{name} 'truncate' is not supported by this endpoint's engine: lower max_tokens", param=name)


_Say = Callable[[Fields, str], None]
_SAID_OTHERWISE: dict[str, _Say] = {
    **dict.fromkeys(_FORMS, _form),
    "grammar": _grammar,
    "response_format": _response_format,
    "no_stop_trim": _no_stop_trim,
    "continue_final_message": _continue,
    "reasoning": _reasoning,
    "best_of": _best_of,
    "context_length_exceeded_behavior": _context,
}

_SAID_ALIKE = [
    frozenset(
        name
        for name, known in PARAMETERS.items()
        if known.handling in (Handling.HONOURED, Handling.HARMLESS)
        and (known.chat if chat else known.completions)
        and name not in _SAID_OTHERWISE
    )
    for chat in (False, True)
]
"""Names that vLLM has for the same, of /v1/completions and of /v1/chat/completions: nearly all that is sent."""


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _decode(raw: msgspec.Raw) -> Any:
    return msgspec.json.decode(raw)
