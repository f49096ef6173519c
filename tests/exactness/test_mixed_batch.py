"""A mixed batch of the real engine in float32 against transformers + PEFT run one at a time, token for token."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import httpx
import pytest

from loradock.registry.bases.builtin import builtin_file
from tests.servers import EXAMPLES, free_port

PROMPTS = ["Why do people like the sea?", "Tell me about rain.", "What is a computer? Give 3 facts: naïve ☔ 2+2=4."]
TOKENS = 24
END_OF_TURN = 2  # ends the text, and is not a part of it
MODELS = ("base", "pirate", "json", "shout")


def reference(answers: list[tuple[str, str, list[int]]]) -> list[list[int]]:
    command = [sys.executable, str(Path(__file__).parent / "reference.py"), str(EXAMPLES)]
    result = subprocess.run(command, input=json.dumps(answers), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    port = free_port()
    command = [sys.executable, "-m", "loradock.engine", "--model", str(builtin_file()), "--dtype", "float32"]
    process = subprocess.Popen(
        [*command, "--served-model-name", "base", "--port", str(port)], stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                break
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    for name in MODELS[1:]:
        body = {"lora_name": name, "lora_path": str(EXAMPLES / name)}
        assert httpx.post(f"{url}/v1/load_lora_adapter", json=body, timeout=60).status_code == 200
    yield url
    process.terminate()
    process.wait()


async def test_mixed_batch_equals_one_at_a_time(engine):
    async with aiohttp.ClientSession() as http:
        asked = [(model, prompt) for prompt in PROMPTS for model in MODELS]
        answers = await asyncio.gather(*(_tokens(http, engine, model, prompt) for model, prompt in asked))
    expected = reference([(*question, tokens) for question, tokens in zip(asked, answers, strict=True)])
    for question, tokens, likeliest in zip(asked, answers, expected, strict=True):
        assert [*tokens, END_OF_TURN][:TOKENS] == likeliest[:TOKENS], question


async def _tokens(http, url, model, prompt):
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": TOKENS,
        "temperature": 0,
        "logprobs": 1,
    }
    async with http.post(f"{url}/v1/chat/completions", json=body) as response:
        return (await response.json())["choices"][0]["logprobs"]["token_ids"]
