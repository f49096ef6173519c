"""A schema in the words that the grammar library follows: no more, and what cannot be said in them is refused."""

import time
from collections.abc import Callable
from typing import Any

from loradock.engine.structured_output.schemas import keywords
from loradock.engine.structured_output.schemas.endings import endless, pruned
from loradock.engine.structured_output.schemas.errors import Unfollowable
from loradock.engine.structured_output.schemas.objects import prepare_object
from loradock.engine.structured_output.schemas.overlap import Overlap
from loradock.engine.structured_output.schemas.references import References

MAX_DEPTH = 50
"""Levels of a schema; the library reads 128 levels of JSON, and one of ours may be two of those."""
MAX_SIZE = 20_000
SECONDS = 10.0
"""The time for all of a schema's patterns, of which those that may grow are tried; that takes some ten milliseconds."""

_ROOT = ""
"""Stands for the schema itself among its definitions: those have other names."""

Json = dict[str, Any]


def prepared(schema: Any, matches: Callable[[str, str], bool]) -> Json:
    """The schema with all that its references mean below `$defs`. Raises Unfollowable.

    `matches(pattern, text)` tells whether a pattern is found in a text; it raises ValueError with the reason when the
    pattern cannot be followed.
    """
    try:
        return _Preparation(schema, matches).whole()
    except RecursionError as error:
        raise Unfollowable("", "it is nested too deeply") from error


class _TooLarge(Unfollowable):
    """The whole is too large: leaving out what comes last would not be what was asked for."""


class _Preparation:
    def __init__(self, schema: Any, matches: Callable[[str, str], bool]) -> None:
        self._matches = matches
        self._root = schema
        self._references = References(schema)
        self._names: dict[int, str] = {}
        self._definitions: Json = {}
        self._unchecked: list[tuple[list[Json | bool], str]] = []
        self._overlap = Overlap(self._definitions)
        self._depth = self._size = 0
        self._deadline = time.monotonic() + SECONDS

    def whole(self) -> Json:
        root = self.schema(self._root, "")
        if isinstance(root, bool):
            root = {} if root else {"enum": []}
        for parts, where in self._unchecked:
            self._check_apart(parts, where)
        without = endless({**self._definitions, _ROOT: root})
        if _ROOT in without:
            raise Unfollowable("", "no value fits it: it is unsatisfiable, or requires itself inside itself for ever")
        # What has none is part of an alternative that was left out, or of one that can be.
        dead = {f"#/$defs/{name}" for name in {*self._names.values()} - set(self._definitions) | without}
        definitions = {name: pruned(part, dead) for name, part in self._definitions.items() if name not in without}
        whole: Json = pruned(root, dead)
        return {**whole, "$defs": definitions} if definitions else whole

    def resolved(self, made: Json | bool) -> Json | bool:
        """A prepared schema in place of a mere reference to it."""
        for _ in range(MAX_DEPTH):
            if not isinstance(made, dict) or set(made) != {"$ref"}:
                break
            made = self._definitions.get(made["$ref"].removeprefix("#/$defs/"), False)
        return made

    def found(self, pattern: str, text: str, where: str) -> bool:
        """Whether a text holds what a pattern describes. Raises Unfollowable when the pattern cannot be followed."""
        if time.monotonic() > self._deadline:
            raise _TooLarge("", "it has too many or too complex patterns")
        try:
            return self._matches(pattern, text)
        except ValueError as error:
            raise Unfollowable(where, f"its pattern {keywords.shown(pattern)} {error}") from error

    def schema(self, node: Any, where: str) -> Json | bool:
        """The part of a schema at `where`, the path of a property."""
        if isinstance(node, bool):
            return node
        if not isinstance(node, dict):
            raise Unfollowable(where, "a schema must be an object, or true or false")
        self._size += 1
        if self._size > MAX_SIZE:
            raise _TooLarge("", f"it is too large: more than {MAX_SIZE} schemas in one")
        if self._depth >= MAX_DEPTH:
            raise Unfollowable(where, f"it is nested more than {MAX_DEPTH} levels deep")
        self._depth += 1
        try:
            return self._object(node, where)
        finally:
            self._depth -= 1

    def _object(self, node: Json, where: str) -> Json:
        keywords.refuse(node, where)
        made = keywords.plain(node, where)
        if "pattern" in made:
            self.found(made["pattern"], "", where)
        made |= prepare_object(self, node, where)
        made |= self._array(node, where)
        for name in ("$ref", "$dynamicRef", "$recursiveRef"):
            if name in node:
                made["$ref"] = self._reference(node, node[name], where)
        if "allOf" in node:
            made["allOf"] = [self.schema(part, where) for part in keywords.branches(node, "allOf", where)]
        if "anyOf" in node:
            made["anyOf"] = self._any_of(keywords.branches(node, "anyOf", where), where)
        if "oneOf" in node:
            made |= self._one_of(node, made, where)
        return made

    def _array(self, node: Json, where: str) -> Json:
        items, prefix, rest = node.get("items"), node.get("prefixItems"), node.get("additionalItems")
        if isinstance(items, list):  # as drafts up to 2019-09 write what is prefixItems and items now
            prefix, items = items, rest
        made: Json = {}
        if prefix is not None:
            if not isinstance(prefix, list):
                raise Unfollowable(where, "prefixItems must be an array of schemas")
            made["prefixItems"] = [self.schema(part, f"{where}[{i}]") for i, part in enumerate(prefix)]
        if items is None:
            items = node.get("unevaluatedItems")
        if items is not None:
            made["items"] = self.schema(items, f"{where}[]")
        return made

    def _reference(self, origin: Json, reference: Any, where: str) -> str:
        if not isinstance(reference, str):
            raise Unfollowable(where, "$ref must be a string")
        try:
            target = self._references.target(reference, origin)
        except LookupError as error:
            raise Unfollowable(
                where, f"its $ref {keywords.shown(reference)} points at nothing in this schema"
            ) from error
        name = self._names.get(id(target)) if isinstance(target, dict) else None
        if name is None:
            name = f"d{len(self._names)}"
            # Booleans are no objects of their own: each reference to one gets a definition.
            self._names[id(target) if isinstance(target, dict) else -len(self._names) - 1] = name
            depth, self._depth = self._depth, 0
            try:
                self._definitions[name] = self.schema(target, where)
            finally:
                self._depth = depth
        return f"#/$defs/{name}"

    def _any_of(self, parts: list[Any], where: str) -> list[Json | bool]:
        """An alternative that cannot be followed is left out as long as others remain: what fits one of those fits."""
        followed: list[Json | bool] = []
        refusals: list[Unfollowable] = []
        for part in parts:
            try:
                followed.append(self.schema(part, where))
            except _TooLarge:
                raise
            except Unfollowable as refusal:
                refusals.append(refusal)
        if not followed:
            raise refusals[0]
        return followed

    def _one_of(self, node: Json, made: Json, where: str) -> Json:
        parts = [self.schema(part, where) for part in keywords.branches(node, "oneOf", where)]
        unfinished = len(self._definitions) < len(self._names)
        if unfinished:
            self._unchecked.append((parts, where))
        else:
            self._check_apart(parts, where)
        if "anyOf" not in made:
            return {"anyOf": parts}
        return {"allOf": [*made.get("allOf", []), {"anyOf": parts}]}

    def _check_apart(self, parts: list[Json | bool], where: str) -> None:
        if not self._overlap.exclude_each_other(parts):
            if self._overlap.spent:
                raise _TooLarge("", "the alternatives of its oneOf are too many to be told apart: use anyOf")
            raise Unfollowable(
                where,
                "the alternatives of its oneOf may overlap, and exactly one of them cannot be guaranteed: tell them"
                " apart by a required property with a const of its own, or use anyOf",
            )
