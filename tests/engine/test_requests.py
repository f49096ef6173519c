"""Bodies of requests: what is read from them, and how an error names what is wrong."""

import pytest

from loradock.engine.requests.chat import read_chat
from loradock.engine.requests.completion import read_completion
from loradock.engine.requests.reading import wrong
from loradock.types.enums import Dialect
from loradock.types.errors import BadRequest

ASK = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def chat(**fields):
    return read_chat({"model": "base", "messages": ASK, **fields}, Dialect.OPENAI)


def completion(**fields):
    return read_completion({"model": "base", "prompt": "x", **fields}, Dialect.OPENAI)


def call(**function):
    return [*ASK, {"role": "assistant", "tool_calls": [{"id": "c", "function": function}]}]


def said(content, role="user"):
    return [*ASK, {"role": role, "content": content}]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": 2.5}, "temperature must be a number from 0 to 2, not 2.5"),
        ({"temperature": True}, "temperature must be a number from 0 to 2, not true"),
        ({"repetition_penalty": 0}, "repetition_penalty must be a number above 0, up to 10, not 0"),
        ({"n": 1.5}, "n must be an integer from 1 to 128, not 1.5"),
        ({"n": "2"}, 'n must be an integer from 1 to 128, not "2"'),
        ({"max_tokens": 0}, "max_tokens must be an integer from 1 to 10000000, not 0"),
        ({"max_completion_tokens": 0, "max_tokens": 9}, "max_completion_tokens must be an integer from 1"),
        ({"seed": 2**64}, "seed must be an integer from -9223372036854775808 to 18446744073709551615, not 18"),
        ({"seed": -(2**63) - 1}, "seed must be an integer from -9223372036854775808"),
        ({"stream": 1}, "stream must be true or false, not 1"),
        ({"stream_options": {"include_usage": "yes"}}, 'stream_options.include_usage must be true or false, not "yes"'),
        ({"stop": ["a"] * 17}, 'stop must be a non-empty string or an array of up to 16 of them, not ["a", "a", '),
        ({"stop": ""}, 'stop must be a non-empty string or an array of up to 16 of them, not ""'),
        ({"stop_token_ids": [1, -1]}, "stop_token_ids must be an array of token ids, not [1, -1]"),
        ({"logit_bias": {"7": 101}}, "logit_bias.7 must be a number from -100 to 100, not 101"),
        ({"logit_bias": [7]}, "logit_bias must be an object, not [7]"),
        ({"truncation_side": "up"}, "truncation_side must be one of 'left', 'right', not \"up\""),
        ({"bad_words": [" "]}, 'bad_words must be an array of up to 256 strings of 1 to 256 characters, not [" "]'),
        ({"model": ""}, 'model must be a non-empty string, not ""'),
        ({"model": None}, "model is missing: it must be a non-empty string"),
        ({"messages": None}, "messages must be a non-empty array, not null"),
        ({"messages": [7]}, "messages[0] must be an object {role, content}, not 7"),
        (
            {"messages": [*ASK, {"content": "x"}]},
            "messages[1].role is missing: it must be one of 'system'",
        ),
        ({"messages": said(None)}, "messages[1].content must be a string or an array of text parts, not null"),
        ({"messages": said(7)}, "messages[1].content must be a string or an array of text parts, not 7"),
        ({"messages": said([{"type": "text"}])}, "messages[1].content[0].text is missing: it must be a string"),
        (
            {"messages": said([{"type": "text", "text": "x"}, {"type": "image_url"}])},
            "messages[1].content[1].type must be 'text', the only kind that this model reads, not \"image_url\"",
        ),
        ({"messages": call()}, "messages[1].tool_calls[0].function.name is missing: it must be a non-empty string"),
        (
            {"messages": call(name="f", arguments="{")},
            'messages[1].tool_calls[0].function.arguments must be a JSON object as text, not "{"',
        ),
        ({"tools": [TOOL, {"type": "search"}]}, "tools[1].type must be 'function', not \"search\""),
        ({"tools": [7]}, "tools[0] must be an object {type: 'function', function: {…}}, not 7"),
        (
            {"tool_choice": "any"},
            "tool_choice must be one of 'none', 'auto', 'required' or an object {type: 'function'",
        ),
        ({"reasoning": {"effort": "most"}}, "reasoning.effort must be one of 'none', 'minimal', 'low', 'medium'"),
        ({"documents": ["x"]}, 'documents[0] must be an object {title, text}, not "x"'),
        ({"response_format": "json"}, 'response_format must be an object {type, …}, not "json"'),
        ({"response_format": {}}, "response_format.type is missing: it must be one of 'text', 'json_object'"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema is missing: it must be a JSON schema object",
        ),
        ({"grammar": {"type": "regex"}}, "grammar.value is missing: it must be a non-empty string"),
        ({"guided_json": "[]"}, 'guided_json must be a JSON schema: an object, or its JSON text, not "[]"'),
        ({"structured_outputs": {"regex": ""}}, 'structured_outputs.regex must be a non-empty string, not ""'),
        ({"continue_final_message": True}, "continue_final_message needs a last message of the assistant, not of role"),
    ],
)
def test_an_error_says_which_field_what_is_allowed_and_what_was_sent(fields, message):
    with pytest.raises(BadRequest) as caught:
        chat(**fields)
    assert str(caught.value).startswith(message)
    assert message.startswith(caught.value.param)


def test_of_a_long_value_the_beginning_is_shown():
    with pytest.raises(BadRequest) as caught:
        chat(tools={"a": ["é" * 1000] * 1000})
    assert str(caught.value) == 'tools must be an array, not {"a": ["' + "é" * 69 + "…"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ([*range(100), object()], "[0, 1, 2, 3, "),
        ({"a": [[[object()]]], "b": 1}, '{"a": [["…"]], "b": 1}'),
        ({f"{n}": n for n in range(100)} | {"last": object()}, '{"0": 0, "1": 1, '),
    ],
    ids=["array", "depth", "object"],
)
def test_of_a_large_value_only_the_beginning_is_encoded(value, shown):
    """What is further on or further down here could not be."""
    assert str(wrong("x", value, "less")).startswith(f"x must be less, not {shown}")


@pytest.mark.parametrize(
    "prompt", [[], [[]], [1, "x"], [1, [2]], [-1], [True], [1.0], ["x"] * 257, 7, {"text": "x"}, [["x"]], None]
)
def test_a_prompt_is_texts_or_token_ids(prompt):
    with pytest.raises(BadRequest, match="prompt must be a string, an array of token ids, or an array of up to 256"):
        completion(prompt=prompt)
    read = [completion(prompt=said).prompts for said in ("x", ["x", [1]], [1, 2], [[1], [2]])]
    assert read == [["x"], ["x", [1]], [[1, 2]], [[1], [2]]]


def test_null_stands_for_the_default():
    nulls = ("max_tokens", "stop", "n", "stream", "temperature", "logit_bias", "top_logprobs", "response_format")
    nulls = {**dict.fromkeys(nulls), "stream_options": {"include_usage": None}, "reasoning": {"effort": None}}
    assert chat(**nulls, tools=None, tool_choice=None).generation == chat().generation


def test_whole_numbers_are_integers_however_they_are_written():
    request = chat(n=2.0, max_tokens=12.0, temperature=1, seed=7.0, logit_bias={"7": None}).generation
    assert (request.n, request.max_tokens, request.params.temperature, request.params.seed) == (2, 12, 1.0, 7)
    assert [type(number) for number in (request.n, request.max_tokens, request.params.seed)] == [int] * 3
    assert request.params.logit_bias == {7: 0}


def test_what_a_body_calls_like_something_of_ours_is_not_taken_for_it():
    body = {"logprobs": 2, "max_tokens": 5, "dialect": "x", "params": {"temperature": 0}, "warnings": 7, "keep": 3}
    request = completion(**body).generation
    assert (request.dialect, request.params.temperature, request.prompt.keep) == (Dialect.OPENAI, 1.0, None)
    assert (request.params.logprobs, request.params.prompt_logprobs) == (2, None)
