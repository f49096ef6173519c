"""Tool calls in the forms of the families, read out of a text that comes in pieces."""

import itertools
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loradock.engine.tool_calls.tool_forms import HermesForm, LlamaForm, MistralForm, form_of
from loradock.engine.tool_calls.tools import ToolCallReader

CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Lyon"}}\n</tool_call>'
PLAIN, NAMED = MistralForm(named=False), MistralForm(named=True)
TWICE = {
    "hermes": (HermesForm(), "Let me. " + CALL + "\n" + CALL, "Let me. "),
    "hermes, said inside": (
        HermesForm(),
        2 * '<tool_call>{"name": "weather", "arguments": {"city": "Lyon", "tag": "a </tool_call> b"}}</tool_call>',
        "",
    ),
    "mistral": (
        PLAIN,
        'Let me. [TOOL_CALLS][{"name": "weather", "arguments": {"city": "Lyon"}}, '
        '{"name": "weather", "arguments": {"city": "Lyon"}, "id": "abcdefghi"}]',
        "Let me. ",
    ),
    "mistral, named": (NAMED, 2 * '[TOOL_CALLS]weather[ARGS]{"city": "Lyon"}', ""),
    "mistral, with ids": (NAMED, 2 * '[TOOL_CALLS]weather[CALL_ID]a1b2c3d4e[ARGS]{"city": "Lyon"}', ""),
    "llama": (LlamaForm(), '{"name": "weather", "parameters": {"city": "Lyon"}}; ' * 2, ""),
    "llama, tagged": (LlamaForm(), '\n<|python_tag|>{"name": "weather", "parameters": {"city": "Lyon"}}\n' * 2, "\n"),
}


def read(text, cuts=(), form=None, names=("weather",)):
    reader, plain, calls = ToolCallReader(form or HermesForm(), frozenset(names)), "", []
    borders = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    for start, end in itertools.pairwise(borders):
        more, found = reader.feed(text[start:end], final=False)
        plain, calls = plain + more, calls + found
    more, found = reader.feed("", final=True)
    return plain + more, [(call.name, json.loads(call.arguments)) for call in calls + found]


@pytest.mark.parametrize("case", TWICE)
@example([7])
@given(st.lists(st.integers(0, 180), max_size=12, unique=True))
def test_calls_are_found_wherever_the_pieces_are_cut(case, cuts):
    form, text, before = TWICE[case]
    plain, calls = read(text, cuts, form)
    assert plain == before
    assert [(name, arguments["city"]) for name, arguments in calls] == [("weather", "Lyon")] * 2


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize("case", TWICE)
def test_where_one_call_is_wanted_the_first_is_given_and_nothing_after_it(case, size):
    form, text, before = TWICE[case]
    reader, plain, calls = ToolCallReader(form, frozenset({"weather"}), one=True), "", []
    for start in range(0, len(text), size):
        more, found = reader.feed(text[start : start + size])
        plain, calls = plain + more, calls + found
        if reader.done:
            break
    more, found = reader.feed("and more", final=True)
    assert (plain + more, len(calls + found)) == (before, 1)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (HermesForm(), "no call"),
        (HermesForm(), "a < b"),
        (HermesForm(), "<tool_call>{broken</tool_call>"),
        (HermesForm(), "<tool_call>[]</tool_call>"),
        (HermesForm(), "<tool"),
        (HermesForm(), '<tool_call>{"name": "weather", "arguments": {"a": "b'),
        (HermesForm(), '<tool_call>{"name": "weather"} and so on </tool_call>'),
        (HermesForm(), '<tool_call>{"name": "weather", "arguments": {"a": NaN}}</tool_call>'),
        (HermesForm(), "<tool_call>" + "[" * 5000 + "</tool_call>"),
        (PLAIN, "[TOOL_CALLS]"),
        (PLAIN, '[TOOL_CALLS][{"name": "weather"}, 7]'),
        (PLAIN, "[TOOL_CALLS] " + "words " * 80),
        (NAMED, '[TOOL_CALLS]weather[ARGS]{"city": '),
        (LlamaForm(), '{"city": "Lyon"}'),
        (LlamaForm(), '{"name": "Peter", "parameters": {}}'),
        (LlamaForm(), 'Like {"name": "weather", "parameters": {}}'),
        (LlamaForm(), "<|python_tag|>print(1)"),
        (LlamaForm(), "{ no JSON at all }"),
        (LlamaForm(), "  <|py"),
    ],
)
def test_what_is_no_call_stays_text(form, text):
    assert read(text, form=form) == (text, [])
    assert read(text, range(len(text)), form) == (text, [])


def test_a_call_counts_though_the_turn_ends_without_its_mark():
    assert read(CALL.removesuffix("</tool_call>")) == ("", [("weather", {"city": "Lyon"})])


def test_text_goes_out_as_soon_as_it_is_no_call():
    reader = ToolCallReader(LlamaForm(), frozenset({"weather"}))
    assert reader.feed('{"answer": 1}') == ('{"answer": 1}', [])
    assert reader.feed(' {"name": "weather", "parameters": {}}') == (' {"name": "weather", "parameters": {}}', [])


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ('{"a": 1e999}', '{"a": 1.7976931348623157e+308}'),
        ('{"a": %s}' % ("9" * 5000), '{"a": 1.7976931348623157e+308}'),
        ('{"a": "\\ud83d"}', '{"a": "\\ud83d"}'),
        ('"{\\"a\\": 1}"', '{"a": 1}'),
        ("null", "{}"),
    ],
)
def test_arguments_are_json_that_clients_can_read(written, arguments):
    _, (call,) = ToolCallReader(HermesForm(), frozenset()).feed(
        f'<tool_call>{{"name": "weather", "arguments": {written}}}</tool_call>'
    )
    assert call.arguments.encode() == arguments.encode()


def test_ids_differ_and_are_of_the_length_that_mistral_s_templates_take():
    _, calls = ToolCallReader(HermesForm(), frozenset()).feed(CALL + CALL)
    assert calls[0].id != calls[1].id
    assert len(PLAIN.new_id()) == 9
    assert PLAIN.new_id().isalnum()


@pytest.mark.parametrize(
    ("template", "form"),
    [
        ("write <tool_call>\n{...}", HermesForm),
        ("write <tool_call>\n<function=name>", type(None)),
        ("{{ '[TOOL_CALLS][' }}", MistralForm),
        ('Respond in the format {\\"name\\": function name, \\"parameters\\": dictionary}', LlamaForm),
        ('{"name": function name, "parameters": dictionary}', LlamaForm),
        ("{{ tools }}", type(None)),
    ],
)
def test_the_form_is_read_from_the_template(template, form):
    assert type(form_of(template)) is form
