"""Many small adapters on one endpoint: what an attach costs as they grow, and what Zipf traffic over all of them meets.

    loradock serve --port 8555 …
    python benchmarks/thousand_adapters.py --url http://127.0.0.1:8555 --key KEY --count 1000

Prints the median attach in steps, and for the traffic tokens per second and time to first token. The base model is
SmolLM2-135M-Instruct; the adapters are random, of rank 2 on the query projections, and differ in content.
"""

import argparse
import asyncio
import io
import json
import random
import statistics
import time

import aiohttp
import numpy as np
from safetensors.numpy import save

BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
LAYERS, HIDDEN, RANK = 30, 576, 2
CONFIG = {"peft_type": "LORA", "r": RANK, "lora_alpha": 4, "target_modules": ["q_proj"], "bias": "none"}
CONFIG["base_model_name_or_path"] = BASE


def weights(seed: int) -> bytes:
    dice = np.random.default_rng(seed)
    tensors = {}
    for layer in range(LAYERS):
        path = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        tensors[f"{path}.lora_A.weight"] = (dice.standard_normal((RANK, HIDDEN)) / 50).astype(np.float16)
        tensors[f"{path}.lora_B.weight"] = (dice.standard_normal((HIDDEN, RANK)) / 50).astype(np.float16)
    return save(tensors)


async def call(http: aiohttp.ClientSession, method: str, path: str, **kwargs: object) -> dict:
    async with http.request(method, path, **kwargs) as answer:
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {await answer.text()}")
        return await answer.json()


async def endpoint_of(http: aiohttp.ClientSession) -> dict:
    body = {"model": BASE, "hardware": "", "autoscaling": {"min_replicas": 1, "max_replicas": 1}}
    made = await call(http, "POST", "/v1/endpoints", json=body)
    while made["state"] != "STARTED":
        await asyncio.sleep(0.3)
        made = await call(http, "GET", f"/v1/endpoints/{made['id']}")
    return made


async def upload(http: aiohttp.ClientSession, name: str, seed: int) -> None:
    form = aiohttp.FormData()
    form.add_field("model_name", name)
    form.add_field("files", io.BytesIO(json.dumps(CONFIG).encode()), filename="adapter_config.json")
    form.add_field("files", io.BytesIO(weights(seed)), filename="adapter_model.safetensors")
    job = (await call(http, "POST", "/v1/models/upload", data=form))["data"]["job_id"]
    while (status := (await call(http, "GET", f"/v1/jobs/{job}"))["status"]) != "Complete":
        if status == "Failed":
            raise RuntimeError(f"the upload of {name} failed")
        await asyncio.sleep(0.02)


async def attach(http: aiohttp.ClientSession, endpoint: dict, name: str) -> float:
    begun = time.perf_counter()
    body = {"model_id": f"{endpoint['name']}:{name}"}
    await call(http, "POST", f"/v1/endpoints/{endpoint['id']}/adapters", json=body)
    return time.perf_counter() - begun


async def ask(http: aiohttp.ClientSession, name: str, tokens: int = 16) -> tuple[float, float]:
    """Seconds to the first token and to the end."""
    body = {"model": name, "prompt": "Tell me about rain.", "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    begun, first = time.perf_counter(), None
    async with http.post("/v1/completions", json={**body, "stream": True}) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{name}: {answer.status} {await answer.text()}")
        async for line in answer.content:
            if b'"error"' in line:
                raise RuntimeError(line.decode())
            if first is None and line.startswith(b"data: {"):
                first = time.perf_counter() - begun
    assert first is not None
    return first, time.perf_counter() - begun


async def alone(http: aiohttp.ClientSession, names: list[str]) -> float:
    """Median milliseconds to the first token of requests one after the other."""
    return 1000 * statistics.median([(await ask(http, name, 2))[0] for name in names])


async def grow(http: aiohttp.ClientSession, endpoint: dict, count: int) -> list[str]:
    names: list[str] = []
    for goal in [step for step in (10, 100, 1000) if step < count] + [count]:
        fresh = [f"{endpoint['owner']}/small-{number}" for number in range(len(names), goal)]
        for start in range(0, len(fresh), 4):
            batch = fresh[start : start + 4]
            await asyncio.gather(
                *(upload(http, name.split("/")[1], len(names) + start + i) for i, name in enumerate(batch))
            )
        times = [await attach(http, endpoint, name) for name in fresh]
        names += fresh
        last = [1000 * seconds for seconds in times[-10:]]
        warm = await alone(http, names[-10:])
        print(
            f"{goal:6d} attached: attach {statistics.median(last):6.0f} ms, first token alone {warm:6.0f} ms",
            flush=True,
        )
    return names


async def traffic(http: aiohttp.ClientSession, names: list[str], clients: int, seconds: float) -> None:
    dice = random.Random(1)
    shares = [1 / rank for rank in range(1, len(names) + 1)]
    firsts: list[float] = []
    wholes: list[float] = []
    asked: set[str] = set()
    left = iter(names)
    until = time.perf_counter() + seconds

    async def client() -> None:
        """Each adapter once, in between and afterwards by Zipf's law."""
        for turn in range(1_000_000):
            once = next(left, None) if turn % 2 else None
            if time.perf_counter() > until and len(asked) == len(names):
                return
            name = once or dice.choices(names, shares)[0]
            first, whole = await ask(http, name)
            firsts.append(first)
            wholes.append(whole)
            asked.add(name)

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    spent = time.perf_counter() - begun
    cuts = statistics.quantiles(firsts, n=100)
    print(
        f"Zipf, {clients} clients: {len(wholes)} answers from {len(asked)} adapters,"
        f" {16 * len(wholes) / spent:.0f} tokens/s;"
        f" first token ms p50 {1000 * cuts[49]:.0f}, p99 {1000 * cuts[98]:.0f}, longest {1000 * max(firsts):.0f}"
    )


async def main(arguments: argparse.Namespace) -> None:
    headers = {"authorization": f"Bearer {arguments.key}"}
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(arguments.url, headers=headers, timeout=timeout) as http:
        endpoint = await endpoint_of(http)
        names = await grow(http, endpoint, arguments.count)
        await traffic(http, names, arguments.clients, arguments.seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60)
    asyncio.run(main(parser.parse_args()))
