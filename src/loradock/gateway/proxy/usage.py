"""Token counts out of answers: asked of the replica where the client did not ask, and then taken out again."""

import re
from typing import Any

import msgspec

from loradock.telemetry.usage import NO_TOKENS, Tokens
from loradock.types.enums import Dialect, Outcome

_ASK = b',"stream_options":{"include_usage":true}}'
_END = b"\n\n"
_DONE = b"data: [DONE]\n\n"
_KEY = b'"usage"'
# In JSON a quote inside a string is escaped, so that neither can be matched by what a model says.
_RECORD = re.compile(rb'"usage"\s*:\s*\{')
_NULL = re.compile(rb',\s*"usage"\s*:\s*null')


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0

    @property
    def tokens(self) -> Tokens:
        return Tokens(self.prompt_tokens or 0, self.completion_tokens or 0)


class _Answer(msgspec.Struct):
    usage: _Usage | None = None
    choices: list[msgspec.Raw] | None = None


def wants_usage(stream_options: Any) -> bool:
    return isinstance(stream_options, dict) and stream_options.get("include_usage") is True


def can_ask(stream_options: Any) -> bool:
    """Return whether usage can be asked for: not beside options that mean more together with it than by themselves, and
    not in place of wrong ones, which the replica is to refuse."""
    return stream_options is None or (isinstance(stream_options, dict) and stream_options.keys() <= {"include_usage"})


def asking_for_usage(body: bytes) -> bytes:
    """The same JSON object with one more member at its end; of two with one name the last counts."""
    return body.rstrip()[:-1] + _ASK


def usage_of(content: bytes) -> Tokens:
    """Return the usage of an answer that is not streamed; zeros where it has none."""
    usage = _decoded(content).usage
    return usage.tokens if usage else NO_TOKENS


def _decoded(content: bytes) -> _Answer:
    try:
        return msgspec.json.decode(content, type=_Answer)
    except msgspec.DecodeError:
        return _Answer()


class StreamTap:
    """Reads the usage out of the whole events of a stream. `asked`: the gateway asked for it, so that the client is
    to see nothing of it; what is not about usage keeps its bytes."""

    def __init__(self, *, asked: bool, dialect: Dialect) -> None:
        self._tokens: Tokens | None = None
        self._asked = asked
        self._nulls = asked and dialect is Dialect.OPENAI  # the other dialect has them unasked
        self._events = 0
        self._tail = (b"", b"")
        self.done = False
        """The answer's end has passed: who leaves now, as some clients do at once, has all of it."""

    @property
    def counted(self) -> Tokens:
        """Return the usage of a stream that was cut before its usage came: as many completion tokens as there were
        events, which is about as many as there were tokens."""
        return self._tokens or Tokens(0, self._events)

    @property
    def outcome(self) -> Outcome:
        """Return the outcome of a stream that has ended: an engine may have ended it with an error event."""
        failed = self._tokens is None and any(b'"error"' in chunk for chunk in self._tail)
        return Outcome.SERVER_ERROR if failed else Outcome.OK

    def feed(self, chunk: bytes) -> bytes:
        """Return what the client is to see of these whole events."""
        if chunk:
            self._events += chunk.count(_END)
            self._tail = (self._tail[1], chunk)
            self.done = chunk.endswith(_DONE)
        return self._read(chunk) if _KEY in chunk else chunk

    def _read(self, chunk: bytes) -> bytes:
        if found := _RECORD.search(chunk):
            begin = chunk.rfind(_END, 0, found.start()) + len(_END) if _END in chunk[: found.start()] else 0
            end = chunk.find(_END, found.start()) + len(_END)
            event = _decoded(chunk[begin:end].removeprefix(b"data:"))
            self._tokens = event.usage.tokens if event.usage else self._tokens
            if self._asked and event.usage and not event.choices:
                chunk = chunk[:begin] + chunk[end:]
        return _NULL.sub(b"", chunk) if self._nulls and _KEY in chunk else chunk
