"""Tool calls in the form of Hermes and Qwen: `<tool_call>{"name": …, "arguments": …}</tool_call>`."""

import json
import secrets
from dataclasses import dataclass

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


@dataclass(frozen=True)
class ToolCall:
    """`arguments` is JSON text, as clients expect it."""

    id: str
    name: str
    arguments: str


class ToolCallReader:
    """Feed text, get what is plain text and the calls that are complete."""

    def __init__(self) -> None:
        self._held = ""
        self.found = 0

    def feed(self, text: str, *, final: bool = False) -> tuple[str, list[ToolCall]]:
        """(plain text, calls). With `final` nothing is held back."""
        self._held += text
        plain, calls = "", []
        while (start := self._held.find(_OPEN)) >= 0 and (end := self._held.find(_CLOSE, start)) >= 0:
            call = _parse(self._held[start + len(_OPEN) : end])
            plain += self._wanted(self._held[:start]) if call else self._held[: end + len(_CLOSE)]
            calls += [call] if call else []
            self.found += call is not None
            self._held = self._held[end + len(_CLOSE) :]
        cut = len(self._held) if final else self._certain()
        plain, self._held = plain + self._wanted(self._held[:cut]), self._held[cut:]
        return plain, calls

    def _wanted(self, text: str) -> str:
        """Between and after calls models write line breaks that are no answer."""
        return "" if self.found and not text.strip() else text

    def _certain(self) -> int:
        start = self._held.find(_OPEN)
        if start >= 0:
            return start
        return next(
            (len(self._held) - n for n in range(len(_OPEN) - 1, 0, -1) if self._held.endswith(_OPEN[:n])),
            len(self._held),
        )


def _parse(text: str) -> ToolCall | None:
    try:
        call = json.loads(text)
        name, arguments = call["name"], call.get("arguments", {})
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(name, str):
        return None
    return ToolCall(f"call_{secrets.token_hex(12)}", name, json.dumps(arguments, ensure_ascii=False))
