"""The usage a gateway asks for is taken out again, whatever the chunks; nothing else is touched."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loradock.gateway.proxy.usage import StreamTap, asking_for_usage, can_ask, usage_of, wants_usage
from loradock.telemetry.usage import Tokens
from loradock.types.enums import Dialect, Outcome

COMPACT, SPACED = (",", ":"), (", ", ": ")
TEXTS = st.lists(
    st.text() | st.sampled_from(['"usage":{', ',"usage":null', '{"usage": {"prompt_tokens": 9}}', '"error"'])
)


def event(body, separators):
    return b"data: " + json.dumps(body, separators=separators).encode() + b"\n\n"


def stream_of(texts, separators, *, asked):
    """As our engine writes it to OpenAI's clients."""
    chunks = [{"id": "x", "choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
    usage = {"prompt_tokens": 11, "completion_tokens": len(texts), "total_tokens": 11 + len(texts)}
    if not asked:
        return [*(event(chunk, separators) for chunk in chunks), b"data: [DONE]\n\n"]
    events = [event({**chunk, "usage": None}, separators) for chunk in chunks]
    return [*events, event({"id": "x", "choices": [], "usage": usage}, separators), b"data: [DONE]\n\n"]


@given(TEXTS, st.sampled_from([COMPACT, SPACED]), st.data())
def test_the_client_sees_what_it_would_have_seen(texts, separators, data):
    events = stream_of(texts, separators, asked=True)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=5)))
    chunks = [b"".join(events[a:b]) for a, b in zip([0, *cuts], [*cuts, len(events)], strict=True)]
    tap = StreamTap(asked=True, dialect=Dialect.OPENAI)
    assert b"".join(tap.feed(chunk) for chunk in chunks) == b"".join(stream_of(texts, separators, asked=False))
    assert tap.counted == Tokens(11, len(texts))
    assert tap.done and tap.outcome is Outcome.OK


@given(TEXTS, st.sampled_from([COMPACT, SPACED]))
def test_a_client_that_asked_gets_it_untouched(texts, separators):
    events = stream_of(texts, separators, asked=True)
    tap = StreamTap(asked=False, dialect=Dialect.OPENAI)
    assert [tap.feed(chunk) for chunk in events] == events
    assert tap.counted == Tokens(11, len(texts))


def test_usage_beside_the_last_text_stays_where_it_is():
    """As Together's clients get it, unasked, with nulls before it."""
    events = [
        event({"choices": [{"text": "a"}], "usage": None}, COMPACT),
        event({"choices": [{"text": "b"}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}, COMPACT),
    ]
    tap = StreamTap(asked=True, dialect=Dialect.TOGETHER)
    assert [tap.feed(chunk) for chunk in events] == events
    assert tap.counted == Tokens(3, 2)


def test_a_cut_stream_counts_its_events_and_an_error_is_seen():
    tap = StreamTap(asked=True, dialect=Dialect.OPENAI)
    for chunk in stream_of(["a", "b"], COMPACT, asked=True)[:2]:
        tap.feed(chunk)
    assert tap.counted == Tokens(0, 2)
    assert not tap.done
    tap.feed(event({"error": {"message": "x"}}, COMPACT))
    tap.feed(b"data: [DONE]\n\n")
    assert tap.outcome is Outcome.SERVER_ERROR


@given(st.dictionaries(st.text(), st.integers() | st.text()), st.sampled_from(["", " ", "\n\t "]))
def test_asking_adds_one_member_and_keeps_every_byte(fields, end):
    body = json.dumps({"model": "x", **fields}).encode()
    asking = asking_for_usage(body + end.encode())
    assert asking.startswith(body[:-1])
    assert json.loads(asking) == {"model": "x", **fields, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize(
    ("options", "wanted", "askable"),
    [
        (None, False, True),
        ({}, False, True),
        ({"include_usage": False}, False, True),
        ({"include_usage": True}, True, True),
        ({"continuous_usage_stats": True}, False, False),
        ("yes", False, False),
    ],
)
def test_when_usage_is_asked_for(options, wanted, askable):
    assert wants_usage(options) is wanted
    assert can_ask(options) is askable


@pytest.mark.parametrize("content", [b"", b"[]", b"not json", b'{"usage": 3}', b'{"usage": {"prompt_tokens": "x"}}'])
def test_answers_without_readable_usage_count_nothing(content):
    assert usage_of(content) == Tokens(0, 0)


def test_the_usage_of_a_whole_answer():
    assert usage_of(b'{"choices": [{"text": "x"}], "usage": {"prompt_tokens": 3, "completion_tokens": null}}') == (3, 0)
