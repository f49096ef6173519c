"""The forms in which families of models write tool calls: how a call is read, and how one is forced."""

import hashlib
import json
import re
import secrets
import string
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loradock.engine.tool_calls.written_json import BrokenJson, json_at, sendable

Mark = Callable[[str], str]
"""A mark of the form as a piece of a Lark grammar."""
_LONGEST_NAME = 300
_MISTRAL_ID = 9


@dataclass(frozen=True)
class Call:
    name: str
    arguments: Any


@dataclass(frozen=True)
class Reading:
    """The text at a mark, up to `end`: calls, or none, if it was but text."""

    calls: tuple[Call, ...]
    end: int


class ToolForm(ABC):
    """`opening` begins a call, `marks` are all texts that may be special tokens and are needed to read it."""

    opening: str
    marks: tuple[str, ...]
    between = string.whitespace
    """The characters that stand between two calls and are not an answer."""

    def find(self, text: str, *, begun: bool) -> int | None:
        """Return where a call may begin; `begun`: other text was written before."""
        at = text.find(self.opening)
        return at if at >= 0 else None

    def certain(self, text: str, *, begun: bool) -> int:
        """Return how much of a text without a call cannot become the beginning of one."""
        return len(text) - _overlap(text, self.opening)

    @abstractmethod
    def read(self, text: str, names: frozenset[str], *, final: bool) -> Reading | None:
        """Read what `text` begins with, which `find` found; None while it cannot be told. `names` are the tools' names.

        Raises BrokenJson when it is none of this form.
        """

    @abstractmethod
    def lark(self, names: list[str], mark: Mark) -> str:
        """Rules `start` for one call; `arguments0` and so on are the rules of the tools' arguments."""

    def new_id(self) -> str:
        return f"call_{secrets.token_hex(12)}"

    def known_id(self, call: str) -> str:
        """The id of a call in a conversation's history, which another model may have made, as templates take it."""
        return call


class HermesForm(ToolForm):
    """`<tool_call>{"name": …, "arguments": …}</tool_call>`: Hermes, Qwen and many others."""

    opening, closing = "<tool_call>", "</tool_call>"
    marks = (opening, closing)

    def read(self, text: str, names: frozenset[str], *, final: bool) -> Reading | None:
        if not final and self.closing not in text:
            return None
        found = json_at(text, _skip(text, len(self.opening)))
        if found is None:
            return None
        calls, end = _calls([found[0]], "arguments"), _skip(text, found[1])
        if text.startswith(self.closing, end):
            return Reading(calls, end + len(self.closing))
        if not self.closing.startswith(text[end:]):
            raise BrokenJson
        # Some end their turn without closing.
        return Reading(calls, len(text)) if final else None

    def lark(self, names: list[str], mark: Mark) -> str:
        return f'start: {mark(self.opening)} "\\n" call "\\n" {mark(self.closing)}\n{_objects(names, "arguments")}'


class MistralForm(ToolForm):
    """`[TOOL_CALLS][{"name": …, "arguments": …}]`; with `named` `[TOOL_CALLS]name[ARGS]{…}`, as newer ones write."""

    opening = "[TOOL_CALLS]"
    marks = (opening, "[CALL_ID]", "[ARGS]")
    _named = re.compile(r"\s*([^\s\[\]{}]+)(?:\[CALL_ID\]\w*)?\[ARGS\]")

    def __init__(self, *, named: bool) -> None:
        self.named = named

    def read(self, text: str, names: frozenset[str], *, final: bool) -> Reading | None:
        start = _skip(text, len(self.opening))
        if text.startswith("[", start):
            found = json_at(text, start)
            return Reading(_calls(found[0], "arguments"), found[1]) if found else None
        named = self._named.match(text, start)
        if named is None and len(text) - start > _LONGEST_NAME:
            raise BrokenJson
        found = json_at(text, named.end()) if named else None
        return Reading((Call(named[1], found[0]),), found[1]) if named and found else None

    def lark(self, names: list[str], mark: Mark) -> str:
        if not self.named:
            return f'start: {mark(self.opening)} "[" call "]"\n{_objects(names, "arguments")}'
        each = [f"{json.dumps(name)} {mark('[ARGS]')} arguments{i}" for i, name in enumerate(names)]
        return f"start: {mark(self.opening)} call\ncall: {' | '.join(each)}\n"

    def new_id(self) -> str:
        """Mistral's templates take no others."""
        return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(_MISTRAL_ID))

    def known_id(self, call: str) -> str:
        fits = len(call) == _MISTRAL_ID and call.isalnum() and call.isascii()
        return call if fits else hashlib.sha256(call.encode(errors="replace")).hexdigest()[:_MISTRAL_ID]


class LlamaForm(ToolForm):
    """`{"name": …, "parameters": …}` and nothing else: Llama 3. JSON that names no tool is an answer."""

    opening, tag = "", "<|python_tag|>"
    marks = (tag,)
    between = string.whitespace + ";"

    def find(self, text: str, *, begun: bool) -> int | None:
        start = len(text) - len(text.lstrip(self.between))
        return start if not begun and text.startswith(("{", self.tag), start) else None

    def certain(self, text: str, *, begun: bool) -> int:
        maybe = not begun and self.tag.startswith(text.lstrip(self.between))
        return 0 if maybe else len(text)

    def read(self, text: str, names: frozenset[str], *, final: bool) -> Reading | None:
        start = _skip(text, len(self.tag) if text.startswith(self.tag) else 0)
        if start == len(text):
            return None
        if text[start] != "{":
            raise BrokenJson
        found = json_at(text, start)
        if found is None:
            return None
        return Reading(tuple(call for call in _calls([found[0]], "parameters") if call.name in names), found[1])

    def lark(self, names: list[str], mark: Mark) -> str:
        return f"start: call\n{_objects(names, 'parameters')}"


def form_of(template: str) -> ToolForm | None:
    """The form that a chat template teaches; None when it is not known."""
    if "<tool_call>" in template:
        return None if "<function=" in template else HermesForm()
    if "[TOOL_CALLS]" in template:
        return MistralForm(named="[ARGS]" in template)
    if re.search(r'"name":[^\n{}]{0,60}"parameters":', template.replace('\\"', '"')):
        return LlamaForm()
    return None


def with_ids(message: dict[str, Any], known: Callable[[str], str]) -> dict[str, Any]:
    """A message with the ids of its calls, or of the call that it answers, as `known` has them."""
    changed = dict(message)
    if isinstance(call := message.get("tool_call_id"), str):
        changed["tool_call_id"] = known(call)
    if "tool_calls" in message:
        changed["tool_calls"] = [
            {**one, "id": known(str(one.get("id") or i))} for i, one in enumerate(message["tool_calls"])
        ]
    return changed


def _objects(names: list[str], key: str) -> str:
    """A call as an object, written as it is trained: one blank after colons and commas."""
    each = [f"{_lark(_head(name, key))} arguments{i} {_lark('}')}" for i, name in enumerate(names)]
    return f"call: {' | '.join(each)}\n"


def _head(name: str, key: str) -> str:
    return f'{{"name": {json.dumps(name, ensure_ascii=False)}, "{key}": '


def _lark(text: str) -> str:
    return json.dumps(text)


def _calls(values: Any, key: str) -> tuple[Call, ...]:
    """All of them, or none: half a list of calls would be obeyed as if it were the whole."""
    if not isinstance(values, list) or not all(_is_call(value) for value in values):
        return ()
    other = "parameters" if key == "arguments" else "arguments"
    return tuple(Call(value["name"], value.get(key, value.get(other, {}))) for value in values)


def _is_call(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(name := value.get("name"), str) and bool(name) and sendable(name)


def _skip(text: str, start: int) -> int:
    return len(text) - len(text[start:].lstrip())


def _overlap(text: str, mark: str) -> int:
    """The length of the longest end of `text` that is a beginning of `mark`."""
    return next((n for n in range(min(len(text), len(mark) - 1), 0, -1) if text.endswith(mark[:n])), 0)
