"""PEFT's module patterns, matched in linear time: a pattern comes from an uploader and must not stall the server.

Rules: https://github.com/huggingface/peft/blob/main/src/peft/utils/other.py (get_pattern_key) and
tuners/tuners_utils.py (check_target_module_exists).
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from pydantic_core import SchemaError, SchemaValidator, core_schema

Matcher = Callable[[str], bool]
MAX_LENGTH = 1000
_PLAIN = re.compile(r"[\w.]+")


class BadPattern(ValueError):
    """A pattern that is no regular expression, or needs backtracking."""


def is_plain(pattern: str) -> bool:
    """A module name rather than an expression (PEFT still reads its dots as "any character")."""
    return bool(_PLAIN.fullmatch(pattern))


@lru_cache(maxsize=1024)
def matcher(pattern: str, whole: bool = False) -> Matcher:
    """Whether a module path matches: on any suffix that starts at a dot, or as a `whole`.

    Raises BadPattern.
    """
    expression = rf"({pattern})$" if whole else rf"(.*\.)?({pattern})$"
    if is_plain(pattern):
        compiled = re.compile(expression)
        return lambda path: compiled.match(path) is not None
    if len(pattern) > MAX_LENGTH:
        raise BadPattern(f"the pattern {pattern[:40]!r}… is longer than {MAX_LENGTH} characters")
    try:
        # The Rust engine behind pydantic never backtracks; Python's would let one pattern hold the process.
        validator = SchemaValidator(core_schema.str_schema(pattern=f"^(?:{expression})"))
    except SchemaError as error:
        raise BadPattern(f"the pattern {pattern!r} is no regular expression without look-around") from error
    return validator.isinstance_python


def is_named(path: str, names: Iterable[str]) -> bool:
    """PEFT's rule for lists: the path itself, or its end after a dot."""
    return any(path == name or path.endswith(f".{name}") for name in names)
