"""Server-sent events at byte level: where one ends, and how an error is told inside a stream."""

import msgspec

from loradock.types.errors import Internal, LoradockError

_END = b"\n\n"
COMMENT = b": still at work" + b" " * 4096 + b"\n\n"
"""Whoever reads events skips it (https://html.spec.whatwg.org/multipage/server-sent-events.html). As long as what the
second of two nginx gathers: the first keeps `X-Accel-Buffering` for itself and sends it an answer of HTTP/1.0."""
UNGATHERED = [(b"cache-control", b"no-cache, no-transform"), (b"x-accel-buffering", b"no")]
"""Ask proxies in between to pass each event on as it comes, as it is."""
STREAM_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), *UNGATHERED]


class WholeEvents:
    """Passes on whole events only, so that an error told after a cut is never glued to half an event."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """Return what may be sent now; most engines write whole events and nothing is held back."""
        if not self._rest and chunk.endswith(_END):
            return chunk
        held = self._rest + chunk
        cut = held.rfind(_END) + len(_END) if _END in held else 0
        self._rest = held[cut:]
        return held[:cut]

    def flush(self) -> bytes:
        """Return what is left when the stream has ended as it should."""
        rest, self._rest = self._rest, b""
        return rest


def error_event(error: LoradockError) -> bytes:
    """An unnamed event (the official clients ignore named ones, errors included)."""
    return b"data: " + msgspec.json.encode({"error": error.body()["error"]}) + _END


def event_of(content: bytes) -> bytes:
    """The JSON of an answer that came instead of a stream, as an event: of an error as `error_event` has it."""
    try:
        found = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return error_event(Internal())
    if isinstance(found, dict) and isinstance(found.get("error"), dict):
        found = {"error": found["error"]}
    return b"data: " + msgspec.json.encode(found) + _END
