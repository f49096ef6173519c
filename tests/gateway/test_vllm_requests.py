"""The same request means the same on vLLM: what it would ignore is said in its words, refused, or remarked on."""

import json

import pytest

from loradock.gateway.proxy.request import with_model
from loradock.gateway.proxy.vllm_requests import for_vllm
from loradock.types.errors import BadRequest
from tests.gateway.scripted import saying
from tests.gateway.test_odd_replicas import STREAM, before, chunk

SCHEMA = {"type": "object"}
WHOLE = b'{"choices": [{"text": "x"}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'


def said(chat=True, **fields):
    """What vLLM gets of these fields."""
    body, _ = for_vllm(json.dumps({"model": "a", **fields}).encode(), "b", chat=chat)
    read = json.loads(body)
    assert read.pop("model") == "b"
    return read


@pytest.mark.parametrize("chat", [True, False])
def test_a_request_in_words_that_vllm_has_keeps_its_bytes(chat):
    text = b'"messages": []' if chat else b'"prompt":  "x"'
    body = b'{ "model":"a", "stream": true, "top_p": 0.50, "user": "me", %s }' % text
    assert for_vllm(body, "a", chat=chat) == (body, [])
    renamed, remarks = for_vllm(body, "b", chat=chat)
    assert json.loads(renamed) == {**json.loads(body), "model": "b"}
    assert (b"0.50" in renamed, remarks) == (True, [])


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        ({"guided_json": SCHEMA}, {"json": SCHEMA}),
        ({"guided_json": "{}"}, {"json": "{}"}),
        ({"guided_json_object": True}, {"json_object": True}),
        ({"guided_regex": "a+"}, {"regex": "a+"}),
        ({"guided_choice": ["yes", "no"]}, {"choice": ["yes", "no"]}),
        ({"guided_grammar": "root ::= x"}, {"grammar": "root ::= x"}),
        ({"ebnf": "root ::= x"}, {"grammar": "root ::= x"}),
        ({"regex": "a+", "guided_json": None}, {"regex": "a+"}),
        ({"grammar": "root ::= x"}, {"grammar": "root ::= x"}),
        ({"grammar": {"type": "json", "value": SCHEMA}}, {"json": SCHEMA}),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, {"json": SCHEMA}),
        ({"response_format": {"type": "regex", "pattern": "a"}}, {"regex": "a"}),
        ({"structured_outputs": {"choice": ["a"]}}, {"choice": ["a"]}),
        ({"guided_regex": "a", "guided_json_object": False}, {"regex": "a"}),
    ],
)
def test_every_name_of_a_form_is_vllms_own(fields, form):
    read = said(**fields)
    assert {name: value for name, value in read.items() if value is not None} == {"structured_outputs": form}


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": "\u00e9"}], "temperature": 1.0, "min_tokens": 3},
        {"response_format": {"type": "json_object"}, "truncate_prompt_tokens": 5},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
        {"bad_words": ["x"], "user": "me", "use_beam_search": False, "unknown": {"a": [1]}},
    ],
)
def test_what_vllm_understands_stays_as_it_is(fields):
    assert said(**fields) == fields


def test_other_words_for_what_vllm_has():
    assert said(continue_final_message=True)["add_generation_prompt"] is False
    assert said(continue_final_message=True, add_generation_prompt=True)["add_generation_prompt"] is True
    assert said(no_stop_trim=True) == {"include_stop_str_in_output": True}
    assert said(reasoning={"enabled": False}) == {"chat_template_kwargs": {"enable_thinking": False}}
    assert said(n=2, best_of=2) == {"n": 2}
    assert said(n=None, best_of=1) == {"n": None}
    assert said(reasoning={"enabled": None, "effort": "low"})["chat_template_kwargs"] == {"enable_thinking": True}
    free = {"response_format": {"type": "text"}}
    assert said(guided_choice=["a"], **free) == {"structured_outputs": {"choice": ["a"]}, **free}


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"use_beam_search": True}, "use_beam_search"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"max_new_tokens": 3}, "max_new_tokens"),
        ({"lora_path": "x"}, "lora_path"),
        ({"prompt": "x"}, "prompt"),
        ({"guided_regex": "a", "structured_outputs": {"regex": "b"}}, "guided_regex"),
        ({"guided_regex": "a", "guided_choice": ["b"]}, "guided_"),
        ({"reasoning": {"effort": "low"}, "chat_template_kwargs": 1}, "chat_template_kwargs"),
        ({"best_of": 3}, "best_of"),
        ({"reasoning": {"max_tokens": 100}}, "reasoning.max_tokens"),
        ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "response_format"),
        ({"context_length_exceeded_behavior": "truncate"}, "context_length_exceeded_behavior"),
    ],
)
def test_what_is_refused_elsewhere_is_refused_here(fields, name):
    with pytest.raises(BadRequest, match=name):
        said(**fields)


@pytest.mark.parametrize(
    "field",
    [b'"\xff": 1', b'"response_format": {"type": "\xff"}', b'"best_of": ' + b"1" * 5000, b'"grammar": "\xff"'],
    ids=["name", "text", "number", "grammar"],
)
def test_what_is_no_json_is_the_callers_fault(field):
    body = b'{"model": "a", %s}' % field
    with pytest.raises(BadRequest, match="not valid JSON"):
        for_vllm(body, "b", chat=True)
    if b"1111" not in field and b": 1" in field:
        with pytest.raises(BadRequest, match="not valid JSON"):
            with_model(body, "b")


def told(content):
    return [entry["message"] for entry in json.loads(content)["warnings"]]


async def test_remarks_come_with_whole_answers_and_streams():
    whole = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(WHOLE), WHOLE)
    events = b"".join(chunk(b"data: " + WHOLE + b"\n\n") for _ in range(2)) + chunk(b"data: [DONE]\n\n")
    async with before(saying(whole, STREAM + b"\r\n" + events + b"0\r\n\r\n")) as (client, edge, seen):
        edge.upstream.vllm = True
        fields = {"model": "dock", "prompt": "x", "temprature": 0, "priority": 3}
        answer = await client.post("/v1/completions", json=fields)
        assert answer.json()["choices"] == [{"text": "x"}]
        remarks = told(answer.content)
        assert "did you mean temperature?" in remarks[1]
        streamed = await client.post("/v1/completions", json={**fields, "stream": True})
        first, second, last = streamed.text.strip().split("\n\n")
        assert told(first.removeprefix("data: ")) == remarks
        assert "warnings" not in second
        assert last == "data: [DONE]"
        assert "priority" not in json.loads(seen.requests[0])
        refused = await client.post("/v1/completions", json={**fields, "use_beam_search": True})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "use_beam_search")
        assert len(seen.requests) == 2
