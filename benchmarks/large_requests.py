"""What requests that cannot fit do to everybody else: how fast they are refused, the others' time between tokens, and
memory.

    python benchmarks/large_requests.py [--megabytes 15] [--at-once 7] [--seconds 10]

Starts a server with one endpoint, keeps four streams going, and sends one oversized chat request, then several at
once, then prompts that almost fit, then lists of ten thousand prompts. Figures are ratios to the quiet span before.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.measuring import quantile
from tests.servers import KEY, RunningServer, create_endpoint, wait_state

STREAMS = 4
WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "lazy", "dogs", "while", "rain", "falls", "on", "hills")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=15)
    parser.add_argument("--at-once", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = RunningServer(Path(folder) / "data").start()
        try:
            print(json.dumps(asyncio.run(measure(server, arguments)), indent=2))
        finally:
            server.stop()


async def measure(server: RunningServer, arguments: argparse.Namespace) -> dict:
    with server.client() as http:
        endpoint = wait_state(http, create_endpoint(http)["id"], "STARTED")
    size, many = int(arguments.megabytes * 1e6), arguments.at_once
    words = _text(size)
    spans = {
        "one": [_chat(words)],
        "several": [_chat(words)] * many,
        "spaces": [_chat(" " * size)] * 2,
        "letters": [_chat(_letters(size))] * 2,
        "ids": [{"prompt": [1] * (size // 3)}],
        "many messages": [{"messages": [{"role": "user", "content": "Hi"}] * (size // 50)}],
        "ten thousand prompts": [{"prompt": ["Hello there"] * 10_000}],
        "300 kB": [_chat(_text(300_000))] * many,
    }
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"}) as http:
        streams = Streams(http, server.url, endpoint["name"])
        try:
            await asyncio.sleep(5)
            quiet = await streams.over(arguments.seconds)
            found = {"quiet_p50_ms": 1000 * quantile(quiet, 0.5), "quiet_p99_ms": 1000 * quantile(quiet, 0.99)}
            for name, bodies in spans.items():
                found[name] = await _span(http, server, streams, bodies, quiet, arguments.seconds, endpoint["name"])
        finally:
            streams.stop()
    return found


async def _span(
    http: aiohttp.ClientSession,
    server: RunningServer,
    streams: "Streams",
    bodies: list[dict],
    quiet: list[float],
    seconds: float,
    model: str,
) -> dict:
    sent = [json.dumps({"model": model, "max_tokens": 4, **body}).encode() for body in bodies]
    memory = Memory(server.process.pid)
    gaps, answers = await asyncio.gather(
        streams.over(seconds), asyncio.gather(*(_post(http, server.url, body) for body in sent))
    )
    rose, stays = memory.end()
    return {
        "status": sorted({status for status, _ in answers}),
        "seconds_to_answer": round(max(took for _, took in answers), 2),
        "p50_times_quiet": round(quantile(gaps, 0.5) / quantile(quiet, 0.5), 2),
        "p99_times_quiet": round(quantile(gaps, 0.99) / quantile(quiet, 0.99), 2),
        "longest_ms": round(1000 * max(gaps)),
        "memory_rose_mb": round(rose),
        "memory_stays_mb": round(stays),
    }


async def _post(http: aiohttp.ClientSession, url: str, body: bytes) -> tuple[int, float]:
    path = "/v1/chat/completions" if b'"messages"' in body[:400] else "/v1/completions"
    begun = time.perf_counter()
    async with http.post(url + path, data=body, headers={"content-type": "application/json"}) as answer:
        await answer.read()
        return answer.status, time.perf_counter() - begun


class Streams:
    """Users who read long answers; `over` gives the times between their tokens during a span."""

    def __init__(self, http: aiohttp.ClientSession, url: str, model: str) -> None:
        self._http, self._url = http, url
        self._body = {"model": model, "prompt": "Once upon a time", "max_tokens": 4000, "ignore_eos": True}
        self._body |= {"stream": True, "logit_bias": {"0": -100}}
        self._gaps: list[float] = []
        self._tasks = [asyncio.create_task(self._read(n)) for n in range(STREAMS)]

    async def over(self, seconds: float) -> list[float]:
        self._gaps = []
        await asyncio.sleep(seconds)
        return self._gaps

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _read(self, number: int) -> None:
        while True:
            last = 0.0
            body = self._body | {"temperature": 1, "seed": number}
            async with self._http.post(f"{self._url}/v1/completions", json=body) as answer:
                async for line in answer.content:
                    if line.startswith(b'data: {"error'):
                        raise RuntimeError(line.decode())
                    if line.startswith(b"data: {"):
                        now = time.perf_counter()
                        if last:
                            self._gaps.append(now - last)
                        last = now


class Memory:
    """Of the server and its engines: how much it rose at most since, and how much of that stays. MB."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = self._most = self._now()
        self._task = asyncio.create_task(self._watch())

    def end(self) -> tuple[float, float]:
        self._task.cancel()
        return self._most - self._before, self._now() - self._before

    async def _watch(self) -> None:
        while True:
            self._most = max(self._most, self._now())
            await asyncio.sleep(0.02)

    def _now(self) -> float:
        server = psutil.Process(self._pid)
        return sum(p.memory_info().rss for p in [server, *server.children(recursive=True)]) / 1e6


def _chat(text: str) -> dict:
    return {"messages": [{"role": "user", "content": text}]}


def _text(size: int) -> str:
    chosen = random.Random(1).choices(WORDS, k=size // 4)
    return " ".join(chosen)[:size]


def _letters(size: int) -> str:
    """Without a blank, and not a word in it: about a token for each."""
    return "".join(random.Random(2).choices("qxzjvkwbpfy7031§", k=size // 2))


if __name__ == "__main__":
    main()
