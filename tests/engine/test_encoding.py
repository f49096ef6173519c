import asyncio
import json
import threading

import httpx
import pytest

from loradock.checkpoints.base_config import read_architecture
from loradock.engine.errors import PromptTooLong
from loradock.engine.text.encoding import Aside, Encoder
from loradock.engine.text.tokenizer import load_tokenizer
from loradock.engine.text.tokens import TokenBytes
from tests.engine import tiny

CONTEXT = 512


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(tiny.SMOLLM2, read_architecture(tiny.SMOLLM2)).tokenizer


def encoder_of(tokenizer, context=CONTEXT):
    return Encoder(tokenizer, TokenBytes(tokenizer), context)


class Counting:
    """The real tokenizer, and how many characters it was given."""

    def __init__(self, tokenizer):
        self._tokenizer, self.characters = tokenizer, 0

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def encode_batch_fast(self, texts, **options):
        self.characters += sum(map(len, texts))
        return self._tokenizer.encode_batch_fast(texts, **options)


TOO_LONG = {
    "words": "the quick brown fox " * 100_000,
    "spaces": " " * 2_000_000,
    "letters": "qxzjv" * 400_000,
    "one character per token": "§¶Ω" * 300_000,
    "new lines": "\n" * 2_000_000,
}


@pytest.mark.parametrize("kind", TOO_LONG)
def test_what_cannot_fit_is_refused_after_a_look_at_its_beginning(tokenizer, kind):
    counting = Counting(tokenizer)
    with pytest.raises(PromptTooLong, match=f"maximum context length is {CONTEXT} tokens") as refused:
        encoder_of(counting).encode(TOO_LONG[kind], special=False, param="messages")
    assert refused.value.code == "context_length_exceeded"
    assert refused.value.param == "messages"
    assert counting.characters < 200_000


@pytest.mark.parametrize("kept", [CONTEXT + 1, 10_000_000])
def test_what_cannot_fit_is_refused_also_where_as_much_was_to_be_kept(tokenizer, kept):
    asked = {"model": "m", "prompt": "word " * 100_000, "truncate_prompt_tokens": kept}
    with pytest.raises(PromptTooLong, match="more than 512"):
        encoder_of(tokenizer).refuse_oversized(json.dumps(asked).encode())
    asked["truncate_prompt_tokens"] = CONTEXT
    encoder_of(tokenizer).refuse_oversized(json.dumps(asked).encode())


@pytest.mark.parametrize("text", ["", "Tell me about rain.", " " * 20_000, "a b\n" * 100, "ab" * 200 + " " * 9_000])
def test_what_may_fit_is_encoded_as_the_tokenizer_does(tokenizer, text):
    assert encoder_of(tokenizer).encode(text, special=True, param="prompt") == tokenizer.encode(text).ids


async def test_slow_work_of_one_account_holds_up_no_other():
    aside, go_on = Aside(), threading.Event()
    slow = [asyncio.create_task(aside.slowly("a", go_on.wait)) for _ in range(8)]
    await asyncio.sleep(0)
    assert await asyncio.wait_for(aside.slowly("b", lambda: "b"), 20) == "b"
    assert await asyncio.wait_for(aside.elsewhere(lambda: "large"), 20) == "large"
    go_on.set()
    assert await asyncio.gather(*slow) == [True] * 8


async def test_others_run_while_a_long_text_is_encoded(tokenizer):
    """The interpreter's lock is given away: else nothing of this loop would run before the end."""
    encoder, began = encoder_of(tokenizer, 1_000_000), threading.Event()
    text = "the quick brown fox " * 30_000

    def encode():
        began.set()
        return encoder.encode(text, special=False, param="prompt")

    encoding, turns = asyncio.create_task(Aside().run(len(text), encode)), 0
    while not encoding.done():
        await asyncio.sleep(0)
        turns += began.is_set()
    assert len(encoding.result()) > 100_000
    assert turns > 20


LONG = "so much text " * 10_000


@pytest.mark.parametrize("body", [{"prompt": LONG}, {"messages": [{"content": "Hi"}, {"content": LONG}]}])
def test_a_long_text_is_refused_before_it_is_decoded(tokenizer, body):
    with pytest.raises(PromptTooLong, match="the prompt has more than 512"):
        encoder_of(tokenizer).refuse_oversized(json.dumps(body).encode())


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": LONG, "truncate_prompt_tokens": 8},
        {"prompt": " " * 100_000},
        {"messages": [{"content": LONG}, {"content": "Hi"}]},
        {"messages": [{"content": LONG}], "chat_template": "Hello"},
        {"messages": [{"content": [{"type": "image_url", "image_url": {"url": LONG}}]}]},
        {"messages": [], "user": LONG},
        {"messages": LONG},
    ],
)
def test_what_may_yet_fit_is_decoded_first(tokenizer, body):
    encoder_of(tokenizer).refuse_oversized(json.dumps(body).encode())


def _post(http, path, **fields):
    return http.post(path, content=json.dumps({"model": "base", "max_tokens": 1, **fields}))


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "so much text " * 1_150_000}]}, "messages"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}] * 200_000}, "messages"),
        ("/v1/completions", {"prompt": "so much text " * 1_150_000}, "prompt"),
        ("/v1/completions", {"prompt": [7] * 4_000_000}, "prompt"),
        ("/v1/completions", {"prompt": [[7] * 600, [7]]}, "prompt"),
        ("/v1/completions", {"prompt": ["so much text " * 300] * 200}, "prompt"),
    ],
)
def test_the_engine_refuses_what_does_not_fit_its_context(http: httpx.Client, path, fields, param):
    answer = _post(http, path, **fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", param)
    assert "maximum context length is 512 tokens" in error["message"]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/completions", {"prompt": [7] * 20_000}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}] * 600}),
    ],
)
def test_what_is_to_be_cut_may_be_longer(http: httpx.Client, path, fields):
    answer = _post(http, path, truncate_prompt_tokens=8, **fields)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["prompt_tokens"] == 8


def test_ten_thousand_prompts_are_refused_in_a_few_words(http: httpx.Client):
    answer = _post(http, "/v1/completions", prompt=["Hello there"] * 10_000)
    assert answer.status_code == 400
    assert len(answer.json()["error"]["message"]) < 300


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": [[7]] * 300_000},
        {"messages": [{}] * 300_000},
        {"prompt": "Hi", "stop": [[]] * 300_000},
        {"prompt": "Hi", "logit_bias": dict.fromkeys(map(str, range(300_000)), 1)},
        {"prompt": "Hi", **dict.fromkeys(map("unknown-{}".format, range(300_000)))},
    ],
)
def test_millions_of_small_parts_are_refused_before_they_become_objects(http: httpx.Client, fields):
    answer = _post(http, "/v1/chat/completions" if "messages" in fields else "/v1/completions", **fields)
    assert answer.status_code == 400
    assert "arrays, objects and members" in answer.json()["error"]["message"]


def test_an_answer_goes_on_beside_large_requests(http: httpx.Client):
    fields = {"model": "base", "prompt": "Once", "max_tokens": 200, "ignore_eos": True, "stream": True}
    with http.stream("POST", "/v1/completions", json=fields) as stream:
        lines = stream.iter_lines()
        next(lines)
        refused = [_post(http, "/v1/completions", prompt="so much text " * 1_000_000) for _ in range(3)]
        rest = list(lines)
    assert [answer.status_code for answer in refused] == [400] * 3
    assert rest[-2] == "data: [DONE]"
