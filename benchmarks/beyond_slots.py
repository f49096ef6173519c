"""Time to first token when more adapters are asked for than an engine has slots, as a ratio to when they fit.

    python benchmarks/beyond_slots.py                    # 8 slots; 8 and 16 adapters, kept in memory and on disk

Starts an engine of its own for every case. `clients` ask in a closed loop, each next request for an adapter drawn
evenly from the working set; with as many clients as adapters all of them are wanted at every moment.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import numpy as np
from safetensors.numpy import save_file

from loradock.registry.bases.builtin import builtin_file

HIDDEN, KV, MLP, LAYERS, RANK = 576, 192, 1536, 30, 8
SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (KV, HIDDEN),
    "self_attn.v_proj": (KV, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (MLP, HIDDEN),
    "mlp.up_proj": (MLP, HIDDEN),
    "mlp.down_proj": (HIDDEN, MLP),
}


def make_adapter(folder: Path, seed: int) -> None:
    """Random numbers, rank 8, all seven projections, about 9.8 MB."""
    dice, tensors = np.random.default_rng(seed), {}
    for layer in range(LAYERS):
        for module, (out, width) in SHAPES.items():
            path = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{path}.lora_A.weight"] = (dice.standard_normal((RANK, width)) / 50).astype(np.float32)
            tensors[f"{path}.lora_B.weight"] = (dice.standard_normal((out, RANK)) / 50).astype(np.float32)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    modules = [module.rpartition(".")[2] for module in SHAPES]
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "target_modules": modules, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))


class Engine:
    """`slots` adapters in a step, `kept` in memory."""

    def __init__(self, folder: Path, slots: int, kept: int) -> None:
        self._announce = folder / f"announce-{slots}-{kept}.json"
        self._announce.unlink(missing_ok=True)
        command = [
            sys.executable,
            "-m",
            "loradock.engine",
            "--model",
            str(builtin_file()),
            "--served-model-name",
            "base",
        ]
        command += ["--max-loras", str(slots), "--max-cpu-loras", str(kept), "--announce", str(self._announce)]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ)

    async def url(self, http: aiohttp.ClientSession) -> str:
        while True:
            await asyncio.sleep(0.1)
            port = json.loads(self._announce.read_text()).get("port") if self._announce.is_file() else None
            if port:
                url = f"http://127.0.0.1:{port}"
                async with http.get(f"{url}/health") as answer:
                    if answer.status == 200:
                        return url

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


async def first_token(http: aiohttp.ClientSession, url: str, model: str, tokens: int) -> float:
    body = {"model": model, "prompt": "Tell me about rain.", "max_tokens": tokens, "ignore_eos": True, "stream": True}
    begun, first = time.perf_counter(), None
    async with http.post(f"{url}/v1/completions", json=body) as answer:
        async for line in answer.content:
            if b'"error"' in line or answer.status != 200:
                raise RuntimeError(line.decode())
            first = first or (time.perf_counter() - begun if line.startswith(b"data: {") else None)
    if first is None:
        raise RuntimeError("an answer without a token")
    return first


async def measure(http: aiohttp.ClientSession, url: str, names: list[str], clients: int, seconds: float) -> list[float]:
    """Milliseconds to the first token of all requests, the first third of the time left out."""
    begun, found, dice = time.perf_counter(), [], random.Random(1)

    async def client(number: int) -> None:
        mine = names[number % len(names)] if clients >= len(names) else None
        while (spent := time.perf_counter() - begun) < seconds:
            took = await first_token(http, url, mine or dice.choice(names), 32)
            if spent > seconds / 3:
                found.append(1000 * took)

    await asyncio.gather(*(client(number) for number in range(clients)))
    return found


async def case(folder: Path, arguments: argparse.Namespace, kept: int, clients: int) -> None:
    medians = {}
    engine = Engine(folder, arguments.slots, kept)
    try:
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as http:
            url = await engine.url(http)
            names = [f"a{number}" for number in range(2 * arguments.slots)]
            for name in names:
                body = {"lora_name": name, "lora_path": str(folder / name)}
                async with http.post(f"{url}/v1/load_lora_adapter", json=body) as answer:
                    answer.raise_for_status()
            for asked in (arguments.slots, 2 * arguments.slots):
                found = await measure(http, url, names[:asked], clients, arguments.seconds)
                medians[asked] = statistics.median(found)
                print(f"  {asked:3d} adapters, {clients} clients: first token p50 {medians[asked]:.0f} ms,"
                      f" longest {max(found):.0f} ms, {len(found)} answers", flush=True)  # fmt: skip
    finally:
        engine.stop()
    print(f"  ratio {medians[2 * arguments.slots] / medians[arguments.slots]:.2f}", flush=True)


async def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(2 * arguments.slots):
            make_adapter(folder / f"a{number}", number)
        for where, kept in (("in memory", 256), ("beyond the slots on disk", arguments.slots)):
            for clients in (arguments.slots, 2 * arguments.slots):
                print(f"{arguments.slots} slots, adapters {where}")
                await case(folder, arguments, kept, clients)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=15)
    asyncio.run(main(parser.parse_args()))
