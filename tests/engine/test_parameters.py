"""Every parameter is honoured, refused, harmless or remarked on; what constrains the output is never ignored."""

import json
import re

import numpy as np
import pytest
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_create_params
from tokenizers import Tokenizer

from loradock.checkpoints.base_config import read_architecture
from loradock.engine.generation import restrictions
from loradock.engine.generation.restrictions import BadWords, SortedVocabulary
from loradock.engine.requests.completion import read_completion
from loradock.engine.text.tokenizer import load_tokenizer
from loradock.engine.text.tokens import TokenBytes
from loradock.types.enums import Dialect
from loradock.types.errors import BadRequest
from loradock.types.parameters import MAX_REMARKS, PARAMETERS, check, nearest
from tests.engine.tiny import SMOLLM2
from tests.tokenizers import save_tokenizer

ASK = [{"role": "user", "content": "Say something"}]
# Of vLLM 0.32 and SGLang: what constrains, shapes or replaces the output or the prompt.
SHAPING = [
    "use_beam_search",
    "length_penalty",
    "prompt_logprobs",
    "logprob_token_ids",
    "thinking_token_budget",
    "repetition_detection",
    "watermarking",
    "return_token_ids",
    "return_tokens_as_token_ids",
    "return_prompt_text",
    "prompt_embeds",
    "include_reasoning",
    "stop_regex",
    "custom_logit_processor",
    "lora_path",
    "input_ids",
    "return_hidden_states",
    "web_search_options",
    "audio",
    "functions",
    "verbosity",
    "suffix",
    "max_new_tokens",
]


def post(http, route="chat/completions", dialect="openai", **fields):
    body = {"model": "base", "temperature": 0, "max_tokens": 12, **fields}
    body |= {"messages": ASK} if route.startswith("chat") else {"prompt": fields.get("prompt", "Once upon a time")}
    return http.post(f"/v1/{route}", json=body, headers={"x-loradock-dialect": dialect})


def text(http, **fields):
    answer = post(http, "completions", **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["text"]


def events(answer):
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    return [json.loads(line) for line in lines[:-1]]


def test_every_parameter_of_the_openai_client_is_known():
    for chat, names in (
        (True, chat_create_params.CompletionCreateParamsBase.__annotations__),
        (False, completion_create_params.CompletionCreateParamsBase.__annotations__),
    ):
        known = {name for name, p in PARAMETERS.items() if (p.chat if chat else p.completions)}
        assert set(names) - known == set()


@pytest.mark.parametrize("name", SHAPING)
@pytest.mark.parametrize("chat", [True, False])
def test_what_shapes_the_output_and_is_not_offered_is_refused_by_name(name, chat):
    with pytest.raises(BadRequest, match=name) as caught:
        check({"model": "x", name: False if name == "include_reasoning" else {"some": "thing"}}, chat=chat)
    assert caught.value.param == name


def test_what_asks_for_nothing_passes_without_a_remark():
    off = {"use_beam_search": False, "length_penalty": 1.0, "suffix": None, "modalities": ["text"], "verbosity": None}
    harmless = {"user": "me", "metadata": {"a": "b"}, "service_tier": "auto", "store": True, "temprature": None}
    assert check({"model": "x", **off, **harmless}, chat=True) == []


def test_a_parameter_of_the_other_route_is_refused():
    for name, chat in (("tools", False), ("continue_final_message", False), ("prompt", True)):
        with pytest.raises(BadRequest, match=rf"{name} is a parameter of /v1/") as caught:
            check({name: ["x"]}, chat=chat)
        assert caught.value.param == name


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("temprature", "temperature"),
        ("temperaturee", "temperature"),
        ("tempereture", "temperature"),
        ("tempertaure", "temperature"),
        ("maxTokens", "max_tokens"),
        ("max-tokens", "max_tokens"),
        ("topP", "top_p"),
        ("guided_jsn", "guided_json"),
        ("colour", None),
        ("m", None),
    ],
)
def test_the_known_name_that_an_unknown_one_was_meant_to_be(name, near):
    assert nearest(name, PARAMETERS) == near


def test_many_unknown_names_are_counted_and_long_ones_cut():
    remarks = check({"x" * 10_000: 1, **{f"private_{n}": 1 for n in range(1000)}}, chat=True)
    assert len(remarks) == MAX_REMARKS + 1
    assert max(map(len, remarks)) < 200
    assert remarks[-1].startswith("985 more")


@pytest.mark.parametrize("dialect", ["openai", "together"])
@pytest.mark.parametrize("route", ["chat/completions", "completions"])
def test_remarks_come_with_whole_answers_and_streams_alike(http, route, dialect):
    fields = {"temprature": 0, "safety_model": "guard", "private": 1}
    whole = post(http, route, dialect, **fields).json()
    streamed = events(post(http, route, dialect, stream=True, n=2, **fields))
    remarks = [[entry["message"] for entry in body["warnings"]] for body in (whole, streamed[0])]
    assert remarks[0] == remarks[1]
    assert [re.sub(r" .*", "", remark) for remark in remarks[0]] == ["safety_model", "temprature", "private"]
    assert "did you mean temperature?" in remarks[0][1]
    assert not any("warnings" in event for event in streamed[1:])
    assert "warnings" not in post(http, route, dialect, user="me").json()


@pytest.mark.parametrize("stream", [False, True])
def test_a_refused_parameter_is_named_before_the_first_token(http, stream):
    answer = post(http, use_beam_search=True, stream=stream)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "use_beam_search"


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
CHOICE = re.compile("yes|no")
JSON = re.compile(r'\{\s*"n"\s*:\s*-?\d+\s*\}')
PHONE = r"\d{3}-\d{2}"
GBNF = 'root ::= "a" ("b" | "c")+ "d"'
LARK = 'start: "a" ("b" | "c")+ "d"'


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        ({"guided_choice": ["yes", "no"]}, CHOICE),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, CHOICE),
        ({"guided_choice": ["a|b", "(c"]}, re.compile(r"a\|b|\(c")),
        ({"guided_json": SCHEMA}, JSON),
        ({"guided_json": json.dumps(SCHEMA)}, JSON),
        ({"structured_outputs": {"json": SCHEMA, "regex": None}}, JSON),
        ({"json_schema": json.dumps(SCHEMA)}, JSON),
        ({"grammar": {"type": "json", "value": SCHEMA}}, JSON),
        ({"guided_regex": PHONE}, re.compile(PHONE)),
        ({"structured_outputs": {"regex": f"^{PHONE}$"}}, re.compile(PHONE)),
        ({"regex": PHONE}, re.compile(PHONE)),
        ({"response_format": {"type": "regex", "pattern": PHONE}}, re.compile(PHONE)),
        ({"guided_grammar": GBNF}, re.compile("a[bc]+d")),
        ({"ebnf": GBNF}, re.compile("a[bc]+d")),
        ({"structured_outputs": {"grammar": LARK}}, re.compile("a[bc]+d")),
        ({"guided_json_object": True}, re.compile(r"\{.*\}", re.DOTALL)),
        ({"structured_outputs": {"json_object": True}}, re.compile(r"\{.*\}", re.DOTALL)),
    ],
)
def test_other_names_of_a_form_constrain_the_output(http, fields, form):
    for settings in ({"stream": False}, {"stream": True}):
        answer = post(http, max_tokens=200, temperature=1, seed=4, **fields, **settings)
        assert answer.status_code == 200, answer.text
        if settings["stream"]:
            said = "".join(e["choices"][0]["delta"].get("content") or "" for e in events(answer))
        else:
            said = answer.json()["choices"][0]["message"]["content"]
        ended = (events(answer)[-1] if settings["stream"] else answer.json())["choices"][0]["finish_reason"]
        assert form.fullmatch(said) or ended == "length"
        assert ended == "stop" or form.pattern.startswith((r"\{", "a[bc]"))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"guided_regex": "(?=a)b"}, "guided_regex"),
        ({"guided_grammar": "root ::= ("}, "guided_grammar"),
        ({"guided_grammar": "nonsense"}, "guided_grammar"),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_json": 7}, "guided_json"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_choice": ["x" * 150_000, "y" * 150_000]}, "guided_choice"),
        ({"guided_choice": "yes"}, "guided_choice"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"json": {}, "regex": "a"}}, "structured_outputs"),
        ({"structured_outputs": {"choice": [1]}}, "structured_outputs.choice"),
        ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag"),
        ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "guided_regex"),
        ({"min_tokens": 13}, "min_tokens"),
        ({"bad_words": [" "]}, "bad_words"),
        ({"bad_words": "x"}, "bad_words"),
        ({"allowed_token_ids": []}, "allowed_token_ids"),
        ({"allowed_token_ids": [49152]}, "allowed_token_ids"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"documents": [{"text": "x"}]}, "documents"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_the_parameters_name(http, fields, param):
    answer = post(http, **fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_nothing_ends_an_answer_before_min_tokens(http):
    ending = {"logit_bias": {"2": 100}, "max_tokens": 9}
    answer = post(http, "completions", min_tokens=5, **ending).json()
    assert answer["usage"]["completion_tokens"] == 6
    assert answer["choices"][0]["finish_reason"] == "stop"
    stop = text(http)[:3]
    cut = post(http, "completions", stop=stop, min_tokens=12).json()
    assert cut["usage"]["completion_tokens"] == 12
    assert cut["choices"][0]["text"] == text(http)


def test_a_grammar_that_has_come_to_its_end_ends_the_answer_before_min_tokens(http):
    answer = post(http, guided_choice=["yes", "no"], min_tokens=12).json()
    assert answer["choices"][0]["message"]["content"] in ("yes", "no")


def test_bad_words_never_appear_however_they_are_cut(http):
    plain = text(http, max_tokens=30)
    words = sorted({plain[i : i + 4] for i in range(0, len(plain) - 4, 3)})
    banned = text(http, max_tokens=30, bad_words=words)
    assert [word for word in words if word.lstrip(" ") in banned] == []
    assert any(word in plain for word in words)


def test_bad_words_of_several_tokens_are_seen_across_them(tmp_path):
    tokens = TokenBytes(Tokenizer.from_file(str(save_tokenizer(tmp_path, "qwen3") / "tokenizer.json")))
    vocabulary = SortedVocabulary(tokens, len(tokens))
    words = BadWords(["blue sky", "né"], vocabulary)
    ids = {tokens[i]: i for i in range(len(tokens)) if i not in tokens.special}

    def forbidden(*said):
        return {tokens[int(i)] for found in words.next([ids[text] for text in said]) for i in found}

    assert forbidden() == set() or all("né".encode() in text for text in forbidden())
    assert {b" sky", b" skys"[:4]} <= forbidden(b" blue")
    assert b"y" in forbidden(b"blue", b" s", b"k")
    assert b" sky" not in forbidden(b" red")
    assert bytes([0xA9]) in forbidden(b"n", bytes([0xC3]))


def test_many_bad_words_change_the_logits_at_once(monkeypatch):
    tokens = TokenBytes(load_tokenizer(SMOLLM2, read_architecture(SMOLLM2)).tokenizer)
    a, b = (next(i for i in range(1000) if tokens[i] == text) for text in (b"a", b"b"))
    words = BadWords(["a" * length + "b" for length in range(1, 200)], SortedVocabulary(tokens, 49152))
    calls, forbid = [], restrictions._forbid
    monkeypatch.setattr(restrictions, "_forbid", lambda logits, found: calls.append(found) or forbid(logits, found))
    logits = np.zeros(49152, np.float32)
    restrictions.Restrictions(bad_words=words).apply(logits, [a] * 300)
    assert len(calls) == 1
    assert logits[b] == -np.inf
    assert logits[a] == 0


def test_only_allowed_tokens_are_sampled(http):
    answer = post(http, "completions", allowed_token_ids=[100, 200], temperature=1, logprobs=0, max_tokens=6).json()
    assert len(set(answer["choices"][0]["logprobs"]["tokens"])) <= 2
    assert answer["usage"]["completion_tokens"] == 6


@pytest.mark.parametrize("name", ["include_stop_str_in_output", "no_stop_trim"])
def test_the_stop_string_is_part_of_the_text_when_asked_for(http, name):
    plain = text(http, max_tokens=30)
    stop = plain[8:13]
    assert text(http, max_tokens=30, stop=stop) == plain[: plain.index(stop)]
    assert text(http, max_tokens=30, stop=stop, **{name: True}) == plain[: plain.index(stop) + 5]
    token = {"logit_bias": {"100": 100}, "stop_token_ids": [100]}
    assert text(http, **token) == ""
    assert text(http, **token, **{name: True}) != ""


def test_special_tokens_are_shown_when_asked_for(http):
    ending = {"logit_bias": {"1": 100}, "max_tokens": 2}
    assert text(http, **ending) == ""
    assert text(http, **ending, skip_special_tokens=False) == "<|im_start|>" * 2


def test_a_prompt_is_truncated_only_when_asked_for(http):
    ids = list(range(100, 150))
    ending = {"echo": True, "max_tokens": 1, "logprobs": 0}
    kept = post(http, "completions", prompt=ids, truncate_prompt_tokens=5, **ending).json()
    last = post(http, "completions", prompt=ids[-5:], **ending).json()
    assert kept["usage"]["prompt_tokens"] == 5
    assert kept["choices"][0]["text"] == last["choices"][0]["text"]
    first = post(http, "completions", prompt=ids, truncate_prompt_tokens=5, truncation_side="right", **ending).json()
    assert (
        first["choices"][0]["text"] == post(http, "completions", prompt=ids[:5], **ending).json()["choices"][0]["text"]
    )
    fits = post(http, "completions", prompt=ids * 20, truncate_prompt_tokens=-1, max_tokens=12).json()
    assert fits["usage"]["prompt_tokens"] == 500
    long = post(http, "completions", prompt="word " * 600, truncate_prompt_tokens=10_000_000, max_tokens=1)
    assert long.status_code == 400
    assert "the prompt has" in long.json()["message"]


def test_token_ids_are_kept_once_however_often_they_are_sent():
    ids = {"stop_token_ids": [3, 1] * 1000, "allowed_token_ids": [5, 3] * 1000}
    request = read_completion({"model": "base", "prompt": "x", **ids}, Dialect.OPENAI).generation
    assert request.stop_token_ids == {1, 3}
    assert request.output.allowed == {3, 5}


FIELDS = (
    "messages",
    "tools",
    "response_format",
    "guided_json",
    "logit_bias",
    "stop",
    "chat_template_kwargs",
    "unknown",
)


@pytest.mark.parametrize("depth", [150, 500, 900, 985, 100_000])
@pytest.mark.parametrize("name", FIELDS)
def test_brackets_nested_deeply_are_refused_in_any_field(http, engine, name, depth):
    nested = {"array": "[" * depth + "]" * depth, "object": '{"properties":' * depth + "{}" + "}" * depth}
    for value in (nested["array"], nested["object"], json.dumps(nested["object"])):
        messages = "" if name == "messages" else f'"messages": {json.dumps(ASK)}, '
        body = f'{{"model": "base", "max_tokens": 1, {messages}"{name}": {value}}}'
        answer = http.post("/v1/chat/completions", content=body)
        if depth > 150:
            assert answer.status_code == 400 or value[0] == '"', answer.text[:300]
        assert answer.status_code in (200, 400), answer.text[:300]
    call = {"id": "x", "type": "function", "function": {"name": "f", "arguments": nested["object"]}}
    history = [*ASK, {"role": "assistant", "tool_calls": [call]}]
    answer = http.post("/v1/chat/completions", json={"model": "base", "messages": history, "max_tokens": 1})
    assert answer.status_code == (200 if depth == 150 else 400)
    assert "Traceback" not in engine.log
