"""Turns the grammar library's messages into words that help a caller: never its inner state."""

import re

_COMPLEX = (
    "too many",
    "too large",
    "too complex",
    "max is",
    "exceed",
    "fuel",
    "recursion limit",
    "stack level",
    "size",
)
_LOOKING = "looks ahead or behind, or has an anchor in its middle, which no grammar can follow"

_SCHEMA_REASONS = {
    "nsatisfiable": "no value fits it: it is unsatisfiable",
    "NoExtension": "no value fits it",
    "forced bytes": "it asks for a text that this model's vocabulary cannot write",
    "min/maxProperties": "minProperties and maxProperties can be followed only where all properties are required",
    "not disjoint": "its patternProperties may fit the same name, which cannot be followed",
    "circular": "a $ref that comes back to itself stands beside other keywords, which cannot be followed",
    "regex is empty": "its pattern or format together with its lengths is too complex: leave one of them out",
    "range": "its bounds are larger or finer than can be followed",
    "multiple": "its multipleOf is finer than can be followed",
}
"""The reasons by a part of the library's message."""


def pattern_reason(message: str) -> str:
    """Return why a pattern cannot be followed, to be read after "its pattern"."""
    if "look" in message:
        return _LOOKING
    if "backreference" in message:
        return "refers back to a group, which no grammar can follow"
    found = re.search(r"^error: (.+)$", message, re.MULTILINE)
    if "regex parse error" in message and found:
        return f"is not a regular expression that is understood ({found[1].strip()})"
    return "is too complex"


def schema_reason(message: str) -> str:
    """Return why a schema cannot be followed, a sentence of its own."""
    known = (reason for word, reason in _SCHEMA_REASONS.items() if word in message)
    return next(known, None) or complexity_reason(message) or "it asks for more than a grammar can express"


def complexity_reason(message: str) -> str | None:
    """None when the message is of something else."""
    if any(word in message.lower() for word in _COMPLEX):
        return "it is too large or too complex: simplify it, or leave out patterns and wide bounds"
    return None


def grammar_reason(message: str) -> str:
    """Return where a grammar that the caller wrote goes wrong, and how."""
    first = next(iter(message.strip().splitlines()), "").split("; following")[0]
    return complexity_reason(message) or f"it cannot be read: {first[:200]}"
