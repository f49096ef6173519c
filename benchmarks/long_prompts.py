"""Time to first token of one adapter while another's long prompts are computed, as a ratio to when it is alone.

    python benchmarks/long_prompts.py                    # 12 clients, prompts of 3,000 tokens

All is measured on one engine, one after the other: the clients of the long prompts, in a closed loop, before anybody
else has come; a request a second for the other adapter alone; both. No prompt is sent twice.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from benchmarks.beyond_slots import Engine, make_adapter
from benchmarks.measuring import quantile

SHORT = "Write two sentences about the weather in the mountains, please."


async def ask(http: aiohttp.ClientSession, url: str, body: dict) -> tuple[float, float]:
    """Seconds to the first token and to the end."""
    begun, first = time.perf_counter(), None
    async with http.post(f"{url}/v1/completions", json={"ignore_eos": True, "stream": True, **body}) as answer:
        async for line in answer.content:
            if b'"error"' in line or answer.status != 200:
                raise RuntimeError(line.decode())
            first = first or (time.perf_counter() - begun if line.startswith(b"data: {") else None)
    return first, time.perf_counter() - begun


class Flood:
    """Clients in a closed loop."""

    def __init__(self, http: aiohttp.ClientSession, url: str, arguments: argparse.Namespace, seed: int) -> None:
        self._http, self._url, self._arguments, self._seed = http, url, arguments, seed
        self._tasks: list[asyncio.Task] = []
        self._ends: list[float] = []

    @property
    def tokens_per_second(self) -> float:
        """Of prompts, between the end of the first and that of the last."""
        if len(self._ends) < 2:
            return float("nan")
        return (len(self._ends) - 1) * self._arguments.prompt / (self._ends[-1] - self._ends[0])

    async def _client(self, number: int) -> None:
        dice = random.Random(1000 * self._seed + number)
        while True:
            prompt = [dice.randrange(1000, 40_000) for _ in range(self._arguments.prompt)]
            await ask(self._http, self._url, {"model": "long", "prompt": prompt, "max_tokens": 16})
            self._ends.append(time.perf_counter())

    @contextmanager
    def running(self) -> Iterator[None]:
        self._tasks = [asyncio.create_task(self._client(n)) for n in range(self._arguments.clients)]
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()


async def light(http: aiohttp.ClientSession, url: str, seconds: float) -> list[tuple[float, float]]:
    """A request a second, whether the one before has been answered or not."""
    tasks = []
    for number in range(int(seconds)):
        body = {"model": "light", "prompt": f"{number}. {SHORT}", "max_tokens": 16}
        tasks.append(asyncio.create_task(ask(http, url, body)))
        await asyncio.sleep(1)
    return list(await asyncio.gather(*tasks))


def show(what: str, found: list[tuple[float, float]]) -> float:
    firsts, wholes = ([1000 * seconds for seconds in column] for column in zip(*found, strict=True))
    p50, p99 = statistics.median(firsts), quantile(firsts, 0.99)
    print(f"{what:<8} first token p50 {p50:.0f} ms, p99 {p99:.0f} ms; 16 tokens p50 {statistics.median(wholes):.0f} ms")
    return p99


async def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engine = Engine(folder, 8, 8)
        try:
            timeout = aiohttp.ClientTimeout(total=None)
            async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as http:
                url = await engine.url(http)
                for seed, adapter in enumerate(("light", "long")):
                    make_adapter(folder / adapter, seed)
                    body = {"lora_name": adapter, "lora_path": str(folder / adapter)}
                    async with http.post(f"{url}/v1/load_lora_adapter", json=body) as answer:
                        answer.raise_for_status()
                await measure(http, url, arguments)
        finally:
            engine.stop()


async def measure(http: aiohttp.ClientSession, url: str, arguments: argparse.Namespace) -> None:
    alone = Flood(http, url, arguments, 1)
    with alone.running():
        await asyncio.sleep(arguments.flood)
    await asyncio.sleep(1)
    await light(http, url, 3)
    quiet = show("alone", await light(http, url, arguments.seconds))
    flood = Flood(http, url, arguments, 2)
    with flood.running():
        await asyncio.sleep(3)
        p99 = show("beside", await light(http, url, arguments.seconds))
    print(f"ratio of p99 {p99 / quiet:.2f}")
    print(f"long prompts: {alone.tokens_per_second:.0f} tokens/s alone, {flood.tokens_per_second:.0f} beside the other")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--prompt", type=int, default=3000, help="tokens")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--flood", type=float, default=40, help="seconds of the long prompts alone")
    asyncio.run(main(parser.parse_args()))
