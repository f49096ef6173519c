"""Throughput and latency of any OpenAI-compatible server, by number of concurrent clients.

    python benchmarks/engine_http.py --url http://127.0.0.1:8999/v1 --key SECRET --models base
    python benchmarks/engine_http.py --url … --models a1 a2 a3 a4 a5 a6 a7 a8 --concurrency 1 8 32

With several models each client asks the next one in turn, so that their requests meet in the same batches.
"""

import argparse
import asyncio
import json
import statistics
import time
from dataclasses import dataclass

import aiohttp

PROMPT = "Write a long story about a parrot who learns to sail. Chapter {number}."


@dataclass
class Sample:
    """Seconds to the first token and to the end, and how many tokens came."""

    first: float
    whole: float
    tokens: int


async def ask(session: aiohttp.ClientSession, url: str, model: str, number: int, tokens: int) -> Sample:
    body = {
        "model": model,
        "prompt": PROMPT.format(number=number),
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    begun = time.perf_counter()
    first, usage = None, None
    async with session.post(f"{url}/completions", json=body) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {await answer.text()}")
        async for line in answer.content:
            if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise RuntimeError(event["error"])
            first = first or time.perf_counter()
            usage = event.get("usage") or usage
    return Sample(first - begun, time.perf_counter() - begun, usage["completion_tokens"])


async def measure(arguments: argparse.Namespace, clients: int) -> None:
    headers = {"authorization": f"Bearer {arguments.key}"} if arguments.key else {}
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:

        async def client(number: int) -> list[Sample]:
            models = arguments.models
            return [
                await ask(session, arguments.url, models[(number + r) % len(models)], number, arguments.tokens)
                for r in range(arguments.rounds)
            ]

        begun = time.perf_counter()
        samples = [s for found in await asyncio.gather(*map(client, range(clients))) for s in found]
        wall = time.perf_counter() - begun
    rate = sum(s.tokens for s in samples) / wall
    between = [(s.whole - s.first) / max(1, s.tokens - 1) for s in samples]
    print(
        f"{clients:>7} {rate:>9.1f} {_ms(statistics.median(s.first for s in samples)):>12}"
        f" {_ms(max(s.first for s in samples)):>12} {_ms(statistics.median(between)):>14}"
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"


async def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--url", required=True, help="ends in /v1")
    p.add_argument("--key")
    p.add_argument("--models", nargs="+", required=True)
    p.add_argument("--concurrency", nargs="+", type=int, default=[1, 8, 32])
    p.add_argument("--tokens", type=int, default=64, help="per request")
    p.add_argument("--rounds", type=int, default=2, help="requests per client")
    arguments = p.parse_args()
    print("clients  tokens/s  first ms p50  first ms max  ms/token p50")
    await measure(argparse.Namespace(**{**vars(arguments), "rounds": 1, "tokens": 8}), 1)
    print("(the line above warmed up)")
    for clients in arguments.concurrency:
        await measure(arguments, clients)


if __name__ == "__main__":
    asyncio.run(main())
