"""PEFT's module patterns, matched in linear time: a pattern comes from an uploader and must not stall the server.

Rules: https://github.com/huggingface/peft/blob/main/src/peft/utils/other.py (get_pattern_key) and
tuners/tuners_utils.py (check_target_module_exists).
"""

import re
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache

Matcher = Callable[[str], bool]
MAX_LENGTH = 1000
_PLAIN = re.compile(r"\^?(?:[\w.-]|\\[.-])+\$?")
_LETTER = re.compile(r"\\?.")


class BadPattern(ValueError):
    """A pattern that is not a regular expression, or needs backtracking."""


def is_plain(pattern: str) -> bool:
    """A module name rather than an expression (PEFT still reads its dots as "any character"), also one between anchors:
    `^model.layers.0.self_attn.q_proj` is how PEFT has exact names written."""
    return bool(_PLAIN.fullmatch(pattern))


class Patterns:
    """The keys of a rank_pattern or alpha_pattern, in the order in which PEFT tries them. Raises BadPattern.

    There may be one for every module of a model, so names are looked up and not tried one after another.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys = tuple(keys)
        self._found: dict[str, list[str]] = {}
        self._names: dict[tuple[int, tuple[int, ...]], _Names] = {}
        self._expressions: list[tuple[int, Matcher]] = []
        for place, key in enumerate(self.keys):
            if is_plain(key):
                letters = _LETTER.findall(key.removeprefix("^").removesuffix("$"))
                free = tuple(at for at, letter in enumerate(letters) if letter == ".")
                names = self._names.setdefault((len(letters), free), _Names(free))
                names.add("".join(letter[-1] for letter in letters), place, whole=key.startswith("^"))
            else:
                self._expressions.append((place, matcher(key)))

    def matching(self, module_path: str) -> list[str]:
        """Return every key that matches, the one that counts first."""
        if not self.keys:
            return []
        if module_path not in self._found:
            places = [place for place, match in self._expressions if match(module_path)]
            for end in _ends(module_path):
                for (length, _), names in self._names.items():
                    if length == len(end):
                        places += names.matching(end, whole=len(end) == len(module_path))
            self._found[module_path] = [self.keys[place] for place in sorted(places)]
        return self._found[module_path]

    def first(self, module_path: str) -> str | None:
        return next(iter(self.matching(module_path)), None) if self.keys else None


class _Names:
    """Names of one length whose dots, which stand for any letter, are at the same places."""

    def __init__(self, free: tuple[int, ...]) -> None:
        self._free = free
        self._places: dict[str, list[tuple[int, bool]]] = {}

    def add(self, name: str, place: int, *, whole: bool) -> None:
        self._places.setdefault(name, []).append((place, whole))

    def matching(self, end: str, *, whole: bool) -> list[int]:
        letters = [*end]
        for at in self._free:
            letters[at] = "."
        found = self._places.get("".join(letters), ())
        return [place for place, wants_whole in found if whole or not wants_whole]


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
    # Few adapters have expressions, and a start would wait for this.
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    try:
        # The Rust engine behind pydantic never backtracks; Python's would let one pattern hold the process.
        validator = SchemaValidator(core_schema.str_schema(pattern=f"^(?:{expression})"))
    except SchemaError as error:
        raise BadPattern(f"the pattern {pattern!r} is not a regular expression without look-around") from error
    return validator.isinstance_python


def is_named(path: str, names: Collection[str]) -> bool:
    """PEFT's rule for lists: the path itself, or its end after a dot."""
    return path.rpartition(".")[2] in names or any(end in names for end in _ends(path))


def _ends(path: str) -> list[str]:
    """The path and what remains of it after each dot."""
    parts = path.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))]
