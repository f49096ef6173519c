"""The engine over a real socket, spoken to by the openai client."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import jsonschema
import openai
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from loradock.checkpoints.base_config import read_architecture
from loradock.engine.text.tokenizer import load_tokenizer
from tests.engine.conftest import SECRET
from tests.engine.tiny import BEYOND, SMOLLM2

ASK = [{"role": "user", "content": "Say something"}]


def say(client, model="base", **fields):
    settings = {"temperature": 0, "max_tokens": 24, **fields}
    return client.chat.completions.create(model=model, messages=ASK, **settings)


def streamed(client, **fields):
    with say(client, stream=True, **fields) as stream:
        return [chunk for chunk in stream if chunk.choices]


def complete(client, prompt="Once upon a time", model="base", **fields):
    return client.completions.create(model=model, prompt=prompt, **{"temperature": 0, **fields})


def test_a_wrong_secret_is_refused_but_health_needs_none(engine):
    answer = httpx.get(f"{engine.url}/v1/models", headers={"authorization": "Bearer wrong"})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert httpx.get(f"{engine.url}/health").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("accept", "parse"),
    [("", text_string_to_metric_families), ("application/openmetrics-text; version=1.0.0", openmetrics_families)],
)
def test_metrics_are_what_prometheus_reads(engine, client, accept, parse):
    say(client, model="a1", max_tokens=3)
    with engine.http as http:
        found = {family.name: family for family in parse(http.get("/metrics", headers={"accept": accept}).text)}
    assert found["loradock_requests_running"].type == "gauge"
    assert found["loradock_generated_tokens"].samples[0].value >= 3
    served = {tuple(sorted(sample.labels.items())) for sample in found["loradock_requests"].samples}
    assert (("model", "a1"), ("outcome", "finished")) in served


def test_models_are_the_base_names_and_the_adapters(client):
    models = {model.id: model for model in client.models.list()}
    assert set(models) >= {"base", "alias", "a1", "a2", "a3"}
    assert models["a1"].parent == "base"


def test_an_unknown_model_never_answers_as_the_base(client):
    with pytest.raises(openai.NotFoundError) as caught:
        say(client, model="a9")
    assert caught.value.code == "model_not_found"


def test_adapters_mixed_in_a_batch_say_what_they_say_alone(client):
    models = ["base", "a1", "a2", "a3", "alias"]
    alone = {model: say(client, model).choices[0].message.content for model in models}
    with ThreadPoolExecutor(10) as pool:
        mixed = list(pool.map(lambda model: say(client, model).choices[0].message.content, models * 4))
    assert mixed == [alone[model] for model in models * 4]
    assert len({alone[model] for model in ("base", "a1", "a2", "a3")}) == 4
    assert alone["alias"] == alone["base"]


def test_stream_equals_whole_even_with_characters_in_several_tokens(client):
    for seed in range(6):
        settings = {"temperature": 1.5, "seed": seed, "max_tokens": 60}
        whole = say(client, **settings).choices[0]
        chunks = streamed(client, **settings)
        assert chunks[0].choices[0].delta.role == "assistant"
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.message.content
        assert chunks[-1].choices[0].finish_reason == whole.finish_reason


def test_characters_of_several_tokens_arrive_whole(client):
    text = "🦜🏽漢é"
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"const": text}}}
    settings = {"response_format": form, "max_tokens": 60, "temperature": 1, "seed": 3}
    whole = say(client, logprobs=True, **settings).choices[0]
    assert json.loads(whole.message.content) == text
    assert any(entry.token == "\ufffd" for entry in whole.logprobs.content)
    texts = [c.choices[0].delta.content or "" for c in streamed(client, **settings)]
    assert "".join(texts) == whole.message.content
    assert not any("\ufffd" in text for text in texts)


def test_a_stop_string_across_tokens_is_cut_and_never_streamed(client):
    text = say(client, max_tokens=40).choices[0].message.content
    stop = text[10:17]
    whole = say(client, max_tokens=40, stop=[stop, "never said"]).choices[0]
    assert whole.message.content == text[: text.index(stop)]
    assert whole.finish_reason == "stop"
    chunks = streamed(client, max_tokens=40, stop=stop)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.message.content


def test_a_stop_token_ends_the_text_before_it(client):
    parrot, bias = _token(" parrot"), {str(_token(" parrot")): 100}
    cut = complete(client, max_tokens=6, logit_bias=bias, extra_body={"stop_token_ids": [parrot]})
    assert (cut.choices[0].text, cut.choices[0].finish_reason) == ("", "stop")
    assert complete(client, max_tokens=6, logit_bias=bias).choices[0].text == " parrot" * 6


def _token(text):
    tokenizer = load_tokenizer(SMOLLM2, read_architecture(SMOLLM2)).tokenizer
    (token,) = tokenizer.encode(text).ids
    return token


def test_a_seed_gives_the_same_text_in_any_company(client):
    settings = {"temperature": 1.2, "top_p": 0.9, "seed": 7}
    alone = say(client, **settings).choices[0].message.content
    with ThreadPoolExecutor(6) as pool:
        company = [pool.submit(say, client, model, temperature=1) for model in ("a1", "a2", "base", "a3")]
        again = pool.submit(say, client, **settings).result().choices[0].message.content
        [other.result() for other in company]
    assert again == alone
    assert say(client, **{**settings, "seed": 8}).choices[0].message.content != alone


def test_n_choices_differ_are_reproducible_and_share_the_prompt(client):
    prompt = "word " * 100
    settings = {"prompt": prompt, "temperature": 1, "seed": 3, "n": 4, "max_tokens": 8}
    texts = [choice.text for choice in complete(client, **settings).choices]
    assert len(set(texts)) == 4
    assert texts == [choice.text for choice in complete(client, **settings).choices]


def test_logit_bias_and_penalties_change_the_choice(client):
    token = _token(" parrot")
    assert complete(client, max_tokens=3, logit_bias={str(token): 100}).choices[0].text == " parrot" * 3
    weak = {"max_tokens": 30, "temperature": 0}
    plain = complete(client, logprobs=0, **weak).choices[0].logprobs.tokens
    penalized = complete(client, logprobs=0, extra_body={"repetition_penalty": 10}, **weak).choices[0].logprobs.tokens
    assert len(set(penalized)) == 30 >= len(set(plain))


def test_top_k_of_one_is_greedy_at_any_temperature(client):
    greedy = say(client).choices[0].message.content
    for extra in ({"top_k": 1}, {"min_p": 1.0}, {"top_p": 0}):
        settings = {"temperature": 2, "extra_body": extra}
        assert say(client, **settings).choices[0].message.content == greedy


def test_json_schema_output_is_json_of_the_schema(client):
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "maximum": 99}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}
    choices = say(client, temperature=1, seed=1, n=3, max_tokens=300, response_format=form).choices
    for choice in choices:
        assert choice.finish_reason == "stop"
        jsonschema.validate(json.loads(choice.message.content), schema)
    short = say(client, max_tokens=2, response_format=form).choices[0]
    assert short.finish_reason == "length"


def test_a_schema_that_cannot_be_followed_is_refused_with_the_reason(client):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "colour"}}}
    with pytest.raises(openai.BadRequestError, match="response_format") as caught:
        say(client, response_format=form)
    assert "colour" in str(caught.value)


def test_echo_and_logprobs_of_completions(client):
    choice = complete(client, prompt=["Once upon", "A parrot"], echo=True, logprobs=2, max_tokens=3).choices
    for prompt, answer in zip(["Once upon", "A parrot"], choice, strict=True):
        logprobs = answer.logprobs
        assert answer.text.startswith(prompt)
        assert "".join(logprobs.tokens) == answer.text
        assert logprobs.token_logprobs[0] is None
        assert all(value <= 0 for value in logprobs.token_logprobs[1:])
        assert [answer.text[at : at + 1] for at in logprobs.text_offset] == [t[:1] for t in logprobs.tokens]
        assert len(logprobs.top_logprobs[-1]) == 2


def test_prompt_logprobs_agree_with_what_was_generated(client):
    generated = complete(client, max_tokens=5, logprobs=1).choices[0]
    read = complete(client, prompt="Once upon a time" + generated.text, echo=True, logprobs=1, max_tokens=0).choices[0]
    assert read.logprobs.tokens[-5:] == generated.logprobs.tokens
    assert read.logprobs.token_logprobs[-5:] == pytest.approx(generated.logprobs.token_logprobs, abs=1e-3)


def test_chat_logprobs_are_those_of_the_text(client):
    choice = say(client, logprobs=True, top_logprobs=3).choices[0]
    entries = choice.logprobs.content
    assert b"".join(bytes(entry.bytes) for entry in entries).decode(errors="replace") == choice.message.content
    assert all(entry.top_logprobs[0].logprob == entry.logprob for entry in entries)
    chunks = streamed(client, logprobs=True, top_logprobs=3)
    seen = [entry for chunk in chunks if chunk.choices[0].logprobs for entry in chunk.choices[0].logprobs.content]
    assert [entry.token for entry in seen] == [entry.token for entry in entries]


def test_usage_counts_and_the_stream_gives_it_when_asked(client):
    whole = say(client).usage
    with say(client, stream=True, stream_options={"include_usage": True}) as stream:
        *_, last = stream
    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (whole.prompt_tokens, whole.completion_tokens)
    assert whole.total_tokens == whole.prompt_tokens + whole.completion_tokens


def test_tokens_past_the_end_only_with_ignore_eos(client):
    bias = {"logit_bias": {"2": 100}, "max_tokens": 5}
    assert complete(client, **bias).usage.completion_tokens == 1
    assert complete(client, **bias).choices[0].finish_reason == "stop"
    assert complete(client, extra_body={"ignore_eos": True}, **bias).usage.completion_tokens == 5


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_tokens": 600}, ["max_tokens is 600", "context of 512", "Lower max_tokens to"]),
        ({"messages": [{"role": "user", "content": "word " * 600}]}, ["the prompt has 6", "context of 512"]),
        ({"temperature": "hot"}, ["temperature must be a number from 0 to 2", '"hot"']),
        ({"temperature": True}, ["temperature"]),
        ({"n": 0}, ["n must be an integer from 1"]),
        ({"stop": [1]}, ["stop must be"]),
        ({"logit_bias": {"cat": 1}}, ["logit_bias keys must be token ids", "'cat'"]),
        ({"logit_bias": {"99999": 1}}, ["99999", "vocabulary"]),
        ({"logit_bias": {"9" * 5000: 1}}, ["logit_bias keys must be token ids"]),
        ({"logprobs": 21}, ["logprobs must be an integer from 0 to 20"]),
        ({"messages": []}, ["messages must be a non-empty array"]),
        ({"messages": [{"role": "boss", "content": "x"}]}, ["messages[0].role", "'user'", '"boss"']),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, ["messages[0].content[0]", "image_url"]),
        ({"messages": [{"role": "tool", "content": "x"}]}, ["tool messages are not understood"]),
        ({"response_format": {"type": "xml"}}, ["response_format.type", "'json_schema'"]),
        ({"functions": []}, ["tools"]),
        ({"tool_choice": "required"}, ["tool_choice", "no tools"]),
        ({"model": None}, ["model"]),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(http, fields, words):
    answer = http.post("/v1/chat/completions", json={"model": "base", "messages": ASK, **fields})
    assert answer.status_code == 400
    body = answer.json()
    assert body["message"] == body["error"]["message"]
    assert [word for word in words if word not in body["message"]] == []
    assert body["error"]["type"] == "invalid_request_error"


def test_truncate_lowers_max_tokens_to_what_fits(http):
    body = {"model": "base", "prompt": "word " * 500, "max_tokens": 600, "ignore_eos": True}
    refused = http.post("/v1/completions", json=body)
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    answer = http.post("/v1/completions", json={**body, "context_length_exceeded_behavior": "truncate"})
    assert answer.json()["usage"]["total_tokens"] == 512


def test_a_body_that_is_no_json_object_is_refused(http):
    for body in (b"{", b"[]", b"\xff", b'{"model": "base", "prompt": "\xff"}', b'{"\xff": 1}'):
        answer = http.post("/v1/completions", content=body)
        assert answer.status_code == 400
        assert "JSON" in answer.json()["message"]


def test_half_a_surrogate_pair_in_a_template_or_in_arguments_is_replaced(http):
    call = {"id": "x", "type": "function", "function": {"name": "f", "arguments": '{"a": "\\ud83d"}'}}
    asked = {"messages": [*ASK, {"role": "assistant", "content": "", "tool_calls": [call]}], "max_tokens": 1}
    templates = ('{{ "\\ud83d" }}', "{{ messages[1].tool_calls[0].function.arguments.a }}")
    answers = [
        http.post("/v1/chat/completions", json={"model": "base", "chat_template": template, **asked})
        for template in (*templates, "\ufffd")
    ]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({answer.json()["usage"]["prompt_tokens"] for answer in answers}) == 1


def test_harmless_and_unapplied_fields(http):
    fields = {"user": "me", "metadata": {}, "store": False, "safety_model": "guard", "max_tokens": 1}
    answer = http.post("/v1/chat/completions", json={"model": "base", "messages": ASK, **fields}).json()
    assert "safety_model" in answer["warnings"][0]["message"]


def test_a_partial_answer_is_continued(client):
    partial = [*ASK, {"role": "assistant", "content": "The three colours are: red, "}]
    settings = {"model": "base", "temperature": 0, "max_tokens": 8}
    in_kwargs = {"continue_final_message": True, "add_generation_prompt": False}

    def ask(messages, **extra):
        return client.chat.completions.create(messages=messages, extra_body=extra, **settings)

    continued = ask(partial, continue_final_message=True, add_generation_prompt=False)
    text = "<|im_start|>user\nSay something<|im_end|>\n<|im_start|>assistant\nThe three colours are: red, "
    expected = complete(client, text, max_tokens=8)
    assert continued.choices[0].message.content == expected.choices[0].text
    assert continued.usage.prompt_tokens == expected.usage.prompt_tokens
    same = [ask(partial, continue_final_message=True), ask(partial, chat_template_kwargs=in_kwargs)]
    assert [answer.usage.prompt_tokens for answer in same] == [continued.usage.prompt_tokens] * 2
    closed = ask(partial, add_generation_prompt=False).usage.prompt_tokens
    assert continued.usage.prompt_tokens < closed < ask(partial).usage.prompt_tokens
    for messages, extra in ((partial, {"add_generation_prompt": True}), (ASK, {})):
        with pytest.raises(openai.BadRequestError, match="continue_final_message"):
            ask(messages, continue_final_message=True, **extra)


def test_content_parts_and_template_arguments(client):
    parts = [{"type": "text", "text": "Say something"}]
    joined = client.chat.completions.create(
        model="base", messages=[{"role": "user", "content": parts}], temperature=0, max_tokens=24
    )
    assert joined.choices[0].message.content == say(client).choices[0].message.content
    opened = say(client, extra_body={"chat_template_kwargs": {"opening": "Well, "}})
    assert opened.usage.prompt_tokens > joined.usage.prompt_tokens


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"days": {"enum": [1, 2]}}, "required": ["days"]},
        },
    }
]


def test_a_required_tool_is_called_with_fitting_arguments(client):
    fields = {"tools": TOOLS, "tool_choice": "required", "max_tokens": 300}
    choice = say(client, **fields).choices[0]
    assert choice.finish_reason == "tool_calls"
    call = choice.message.tool_calls[0]
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments)["days"] in (1, 2)
    chunks = streamed(client, **fields)
    calls = [c for chunk in chunks for c in chunk.choices[0].delta.tool_calls or []]
    assert [c.function.name for c in calls] == ["weather"]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_a_client_that_leaves_frees_its_slots(engine):
    body = {"model": "a1", "prompt": "x", "max_tokens": 500, "ignore_eos": True, "n": 3}
    headers = {"authorization": f"Bearer {SECRET}"}
    for stream in (True, False):
        before = engine.metric("generated_tokens_total")
        async with httpx.AsyncClient(base_url=engine.url, headers=headers) as client:
            task = asyncio.create_task(client.post("/v1/completions", json={**body, "stream": stream}))
            while await asyncio.to_thread(engine.metric, "requests_running") < 3:
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(engine.wait_metric, "requests_running", 0)
        assert engine.metric("generated_tokens_total") - before < 3 * 499


def test_more_sequences_than_the_cache_holds_all_finish(client, engine):
    before = engine.metric("preemptions_total")
    prompts = [f"{n} " + "word " * 60 for n in range(8)]
    settings = {"max_tokens": 180, "extra_body": {"ignore_eos": True}}
    alone = [complete(client, prompt=prompt, **settings).choices[0].text for prompt in prompts[:2]]
    together = [choice.text for choice in complete(client, prompt=prompts, **settings).choices]
    assert engine.metric("preemptions_total") > before
    assert together[:2] == alone
    assert engine.metric("kv_cache_usage_ratio") == 0


def test_together_shapes(http):
    headers = {"x-loradock-dialect": "together"}
    body = {"model": "base", "messages": ASK, "max_tokens": 4, "logprobs": 2, "echo": True, "seed": 5}
    answer = http.post("/v1/chat/completions", json=body, headers=headers).json()
    choice = answer["choices"][0]
    assert choice["seed"] == 5
    assert len(choice["logprobs"]["token_ids"]) == len(choice["logprobs"]["tokens"]) == 4
    assert "Say something" in answer["prompt"][0]["text"]
    ended = http.post("/v1/chat/completions", json={**body, "logit_bias": {"2": 100}}, headers=headers).json()
    assert ended["choices"][0]["finish_reason"] == "eos"
    assert (
        http.post("/v1/completions", json={"model": "base", "prompt": "x", "max_tokens": 2}, headers=headers).json()[
            "object"
        ]
        == "text.completion"
    )


def test_the_seeds_of_choices_stay_numbers_that_can_be_sent(http):
    body = {"model": "base", "prompt": "x", "max_tokens": 1, "n": 2, "seed": 2**64 - 1}
    answer = http.post("/v1/completions", json=body, headers={"x-loradock-dialect": "together"}).json()
    assert [choice["seed"] for choice in answer["choices"]] == [2**64 - 1, 0]


def test_together_chunks(http):
    headers = {"x-loradock-dialect": "together"}
    chat = {"model": "base", "messages": ASK, "max_tokens": 4, "logprobs": 1, "stream": True, "seed": 1}
    events = _events(http.post("/v1/chat/completions", json=chat, headers=headers))
    assert events[-1]["usage"]["completion_tokens"] == 4
    assert isinstance(events[-1]["choices"][0]["logprobs"], float)
    assert isinstance(events[-1]["choices"][0]["delta"]["token_id"], int)
    plain = {"model": "base", "prompt": "x", "max_tokens": 3, "stream": True, "seed": 1, "ignore_eos": True}
    events = _events(http.post("/v1/completions", json=plain, headers=headers))
    assert {event["object"] for event in events} == {"completion.chunk"}
    assert events[-1]["token"]["text"] == events[-1]["choices"][0]["text"]


def _events(answer):
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_a_token_that_only_the_tokenizer_knows_is_refused(client):
    with pytest.raises(openai.BadRequestError, match="token id 49152 is not below the vocabulary's 49152"):
        complete(client, f"Once {BEYOND} a time")
