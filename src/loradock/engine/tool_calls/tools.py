"""Reading tool calls out of an answer while it grows."""

from dataclasses import dataclass
from typing import Any

from loradock.engine.tool_calls.tool_forms import Reading, ToolForm
from loradock.engine.tool_calls.written_json import BrokenJson, json_text


@dataclass(frozen=True)
class ToolCall:
    """`arguments` is JSON text, as clients expect it."""

    id: str
    name: str
    arguments: str


class ToolCallReader:
    """Feed text, get what is plain text and the calls that are complete. `names` are the tools that were offered. Of
    `one` call only the first is given out, and nothing after it."""

    def __init__(self, form: ToolForm, names: frozenset[str], *, one: bool = False) -> None:
        self._form = form
        self._names = names
        self._one = one
        self._held = ""
        self._begun = False
        self.found = 0

    @property
    def done(self) -> bool:
        """Whether no more calls are wanted."""
        return self._one and self.found > 0

    def feed(self, text: str, *, final: bool = False) -> tuple[str, list[ToolCall]]:
        """(plain text, calls). With `final` nothing is held back."""
        self._held += text
        plain, calls = "", []
        while not self.done and (start := self._form.find(self._held, begun=self._begun)) is not None:
            reading = self._read(self._held[start:], final=final)
            if reading is None:
                break
            end = start + reading.end
            plain += self._plain(self._held[: start if reading.calls else end])
            calls += [ToolCall(self._form.new_id(), call.name, _arguments(call.arguments)) for call in reading.calls]
            self.found += len(reading.calls)
            self._held = self._held[end:]
        if self.done:
            self._held = ""
            self.found = 1
            return plain, calls[:1]
        certain = self._form.certain(self._held, begun=self._begun) if start is None else start
        cut = len(self._held) if final else certain
        plain, self._held = plain + self._plain(self._held[:cut]), self._held[cut:]
        return plain, calls

    def _read(self, text: str, *, final: bool) -> Reading | None:
        try:
            reading = self._form.read(text, self._names, final=final)
        except BrokenJson:
            return Reading((), max(1, len(self._form.opening)))
        # What has no end is not a call.
        return reading or (Reading((), len(text)) if final else None)

    def _plain(self, text: str) -> str:
        """Return plain text, without the line breaks that models write between and after calls and that are no
        answer."""
        if self.found and not text.strip(self._form.between):
            return ""
        self._begun = self._begun or bool(text.strip())
        return text


def _arguments(value: Any) -> str:
    """Some models write them as text that holds the object."""
    return value if isinstance(value, str) and value.lstrip().startswith("{") else json_text(value or {})
