"""Constraints as grammars in the library's own language, Lark with schemas in it."""

import json
import re
from collections.abc import Callable
from typing import Any

import llguidance
from llguidance.gbnf_to_lark import any_to_lark

from loradock.engine.requests.constraint import Constraint
from loradock.engine.structured_output.grammar_errors import grammar_reason, pattern_reason, schema_reason
from loradock.engine.structured_output.schemas import Unfollowable, blamed, prepared
from loradock.engine.tool_calls.tool_forms import Mark, ToolForm

# Small models like to write white space for ever where JSON allows any amount of it.
_JSON = {"whitespace_pattern": r"[ \n\t]{0,16}"}
_ESCAPE = re.compile(r"\\(?:(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})|.)", re.DOTALL)
# Three times as many optional properties as the library would have; the work of a whole step stays as limited.
LIMITS = llguidance.LLParserLimits(max_items_in_row=6_000, verbose_errors=False)


class GrammarWriter:
    """`mark` writes a fixed text of a tool call; `attempt` raises Unfollowable when a grammar shows to be too complex
    once it is used.
    """

    def __init__(self, mark: Mark, attempt: Callable[[str], object]) -> None:
        self._mark = mark
        self._attempt = attempt

    def text(self, constraint: Constraint) -> str:
        """Raises Unfollowable."""
        if constraint.form is not None:
            return self._tools(constraint, constraint.form)
        if constraint.regex is not None:
            return _checked(llguidance.LLMatcher.grammar_from_regex(constraint.regex), pattern_reason, "the pattern ")
        if constraint.grammar is not None:
            return _of_caller(constraint.grammar)
        return f"start: {self._json(constraint.schema)}"

    def _tools(self, constraint: Constraint, form: ToolForm) -> str:
        """Each tool's parameters are a schema of their own, so that its references mean what they mean there."""
        names = [tool["function"]["name"] for tool in constraint.tools]
        rules = [form.lark(names, self._mark)]
        for i, tool in enumerate(constraint.tools):
            try:
                rules.append(f"arguments{i}: {self._json(_parameters(tool['function']))}")
            except Unfollowable as refusal:
                raise Unfollowable("", f"the parameters of {names[i]!r}: {refusal}") from refusal
        return "\n".join(rules)

    def _json(self, schema: Any) -> str:
        """A schema as a piece of a grammar. Raises Unfollowable with the property at fault."""
        ready = prepared(schema, self._found)
        if message := _complaint(ready):
            where = blamed(ready, lambda part: bool(_complaint(part)))
            raise Unfollowable(where, schema_reason(message))
        return _inline(ready)

    def _found(self, pattern: str, text: str) -> bool:
        """Whether a pattern is found in a text. Raises ValueError with the reason when it cannot be followed."""
        if message := _complaint({"type": "string", "pattern": pattern}):
            raise ValueError(pattern_reason(message))
        if text:
            return not _complaint({"type": "string", "const": text, "pattern": pattern})
        if "{" not in pattern and "\\p" not in pattern:  # only counting and large classes grow beyond what is written
            return False
        try:
            self._attempt(f"start: {_inline({'type': 'string', 'pattern': pattern})}")
        except Unfollowable as refusal:
            raise ValueError("is too complex, or no text fits it") from refusal
        return False


def _parameters(function: dict[str, Any]) -> dict[str, Any]:
    """Arguments are an object, also where the schema leaves that open."""
    schema = function.get("parameters") or {}
    combined = schema.keys() & {"type", "$ref", "allOf", "anyOf", "oneOf"}
    return schema if combined else {"type": "object", **schema}


def _of_caller(text: str) -> str:
    try:
        lark = any_to_lark(_ESCAPE.sub(_character, text) if "::=" in text else text)
    except Exception as error:
        raise Unfollowable("", grammar_reason(str(error))) from error
    return _checked(lark, grammar_reason)


def _character(escape: re.Match[str]) -> str:
    """Return what GBNF writes as \\uXXXX, in the only ways that its conversion leaves as they are."""
    if not escape[1]:
        return escape[0]
    code = int(escape[1][1:], 16)
    if code < 0x80:
        return f"\\x{code:02x}"
    return escape[0] if code > 0x10FFFF or 0xD800 <= code < 0xE000 else chr(code)


def _checked(grammar: str, reason: Callable[[str], str], about: str = "") -> str:
    if message := llguidance.LLMatcher.validate_grammar(grammar, limits=LIMITS):
        raise Unfollowable("", about + reason(message))
    return grammar


def _complaint(schema: dict[str, Any]) -> str:
    return llguidance.LLMatcher.validate_grammar(f"start: {_inline(schema)}", limits=LIMITS)


def _inline(schema: dict[str, Any]) -> str:
    return f"%json {json.dumps({**schema, 'x-guidance': _JSON})}"
