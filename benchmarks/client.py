"""The load: streamed completions over HTTP, with tokens and times counted the same way for every server.

Tokens are those of the server's own usage record. The first token has come with the first event that carries a choice;
the time between tokens is the time between such events.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp


@dataclass(frozen=True)
class Request:
    """`extra`: how this server is told the adapter (and the model)."""

    prompt: str
    tokens: int
    extra: dict[str, object]

    @property
    def body(self) -> bytes:
        fixed = {"temperature": 0, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}
        return json.dumps({**self.extra, "prompt": self.prompt, "max_tokens": self.tokens, **fixed}).encode()


@dataclass
class Answer:
    """Times in seconds by one clock; `events`: when each piece of text came."""

    begun: float
    events: list[float] = field(default_factory=list)
    ended: float = 0.0
    tokens: int = 0
    prompt_tokens: int = 0

    @property
    def first(self) -> float:
        return self.events[0] - self.begun

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.events, self.events[1:], strict=False)]


class Failed(Exception):
    """A server answered with an error, or not as it should."""


def session(headers: dict[str, str]) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        headers={"content-type": "application/json", **headers},
        connector=aiohttp.TCPConnector(limit=0, force_close=True),  # llama.cpp closes after each stream
        timeout=aiohttp.ClientTimeout(total=None),
        read_bufsize=2**20,
    )


async def ask(http: aiohttp.ClientSession, url: str, request: Request) -> Answer:
    answer = Answer(time.perf_counter())
    async with http.post(f"{url}/v1/completions", data=request.body) as response:
        if response.status != 200:
            raise Failed(f"{response.status}: {(await response.text())[:300]}")
        async for line in response.content:
            if line.startswith(b"data: {"):
                _take(answer, line)
    answer.ended = time.perf_counter()
    if answer.tokens != request.tokens or not answer.events:
        raise Failed(f"{answer.tokens} tokens came in {len(answer.events)} events, {request.tokens} were asked for")
    return answer


def _take(answer: Answer, line: bytes) -> None:
    """Reads the JSON only of the last event: parsing all would slow the machine that is being measured."""
    if b'"completion_tokens"' in line:
        usage = json.loads(line[6:])["usage"]
        answer.tokens, answer.prompt_tokens = usage["completion_tokens"], usage["prompt_tokens"]
    elif b'"error"' in line[:20]:
        raise Failed(line[:300].decode(errors="replace"))
    else:
        answer.events.append(time.perf_counter())


@dataclass(frozen=True)
class Load:
    """What a number of clients met, each with one request after the other."""

    answers: Sequence[Answer]
    seconds: float

    @property
    def tokens(self) -> int:
        return sum(answer.tokens for answer in self.answers)


async def load(url: str, headers: dict[str, str], clients: Sequence[Sequence[Request]]) -> Load:
    """`clients`: for each its requests."""
    async with session(headers) as http:

        async def client(requests: Sequence[Request]) -> list[Answer]:
            return [await ask(http, url, request) for request in requests]

        begun = time.perf_counter()
        answers = [answer for found in await asyncio.gather(*map(client, clients)) for answer in found]
        return Load(answers, time.perf_counter() - begun)
