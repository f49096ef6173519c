import itertools
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loradock.engine.tools import ToolCallReader

CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Lyon"}}\n</tool_call>'


def read(text, cuts=()):
    reader, plain, calls = ToolCallReader(), "", []
    borders = [0, *sorted(cuts), len(text)]
    for start, end in itertools.pairwise(borders):
        more, found = reader.feed(text[start:end], final=end == len(text) and start == borders[-2])
        plain, calls = plain + more, calls + found
    return plain, [(call.name, json.loads(call.arguments)) for call in calls]


@example([7])
@given(st.lists(st.integers(0, len(CALL) * 2 + 8), max_size=12, unique=True))
def test_calls_are_found_wherever_the_pieces_are_cut(cuts):
    plain, calls = read("Let me. " + CALL + CALL, cuts)
    assert plain == "Let me. "
    assert calls == [("weather", {"city": "Lyon"})] * 2


@pytest.mark.parametrize(
    "text", ["no call", "a < b", "<tool_call>{broken</tool_call>", "<tool_call>[]</tool_call>", "<tool"]
)
def test_what_is_no_call_stays_text(text):
    assert read(text) == (text, [])


def test_ids_differ():
    _, calls = ToolCallReader().feed(CALL + CALL)
    assert calls[0].id != calls[1].id
