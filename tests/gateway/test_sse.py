import pytest

from loradock.gateway.proxy.sse import WholeEvents, error_event
from loradock.types.errors import ReplicaLost

STREAM = b"data: one\n\ndata: two\n\n: comment\n\ndata: [DONE]\n\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 11, 100])
def test_only_whole_events_pass_and_nothing_is_lost(size):
    events = WholeEvents()
    parts = [events.feed(STREAM[at : at + size]) for at in range(0, len(STREAM), size)]
    assert all(part == b"" or part.endswith(b"\n\n") for part in parts)
    assert b"".join(parts) + events.flush() == STREAM


def test_half_an_event_is_held_back():
    events = WholeEvents()
    assert events.feed(b"data: one\n\ndata: tw") == b"data: one\n\n"
    assert events.flush() == b"data: tw"
    assert events.flush() == b""


def test_an_error_is_an_unnamed_event():
    assert error_event(ReplicaLost()).startswith(b'data: {"error":{"message":"The replica')
