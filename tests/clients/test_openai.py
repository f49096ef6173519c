"""The `openai` package against the server."""

import openai
import pytest

from tests.servers import KEY

ASK = [{"role": "user", "content": "Hello!"}]


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY) as found:
        yield found


def test_chat_and_stream_agree(client, attached):
    options = {"model": "tester/pirate", "messages": ASK, "max_tokens": 20, "temperature": 0}
    whole = client.chat.completions.create(**options)
    assert whole.choices[0].message.content.startswith("Arrr")
    assert whole.choices[0].finish_reason in ("stop", "length")
    chunks = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens


async def test_async_client(server, attached):
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY) as client:
        reply = await client.chat.completions.create(model="tester/shout", messages=ASK, max_tokens=8, temperature=0)
    text = reply.choices[0].message.content
    assert text == text.upper()


def test_models_are_what_can_be_called(client, attached):
    names = {model.id for model in client.models.list()}
    assert {"tester/pirate", "tester/json", "tester/shout", attached["name"]} <= names
    assert client.models.retrieve("tester/pirate").id == "tester/pirate"


def test_completions_with_logprobs_and_echo(client, attached):
    reply = client.completions.create(
        model=attached["name"], prompt="1, 2, 3,", max_tokens=4, temperature=0, logprobs=2, echo=True
    )
    choice = reply.choices[0]
    assert choice.text.startswith("1, 2, 3,")
    assert "".join(choice.logprobs.tokens) == choice.text
    assert choice.logprobs.token_logprobs[0] is None
    assert all(value <= 0 for value in choice.logprobs.token_logprobs[1:])


def test_unknown_model_and_wrong_key(server, client):
    with pytest.raises(openai.NotFoundError, match="nobody/none") as caught:
        client.chat.completions.create(model="nobody/none", messages=ASK)
    assert caught.value.code == "model_not_available"
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="ld-wrong") as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.chat.completions.create(model="tester/pirate", messages=ASK)


def test_a_base_url_without_v1(server, attached):
    with openai.OpenAI(base_url=server.url, api_key=KEY) as client:
        assert client.chat.completions.create(model="pirate", messages=ASK, max_tokens=1).choices
