"""Decode speed of the embedded engine in this process, without HTTP, beside the speed of its matrix products alone.

    python benchmarks/engine_decode.py                      # base, 8 and 32 mixed adapters at 1, 8, 32, 64 sequences

The roofline is what the base model's matrix products alone would reach at that many rows, measured in the same run:
the better of two ways to share our own bf16 products among the threads, taking turns with the runs.
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from benchmarks.own_products import OwnProducts, random_bits
from benchmarks.roofline import own_ways, step_seconds
from loradock.checkpoints.architecture import Architecture
from loradock.engine.adapters.lora import LoadedAdapter
from loradock.engine.core import SamplingParams, Sequence
from loradock.engine.generation.generation import Generation, TokenSampled
from loradock.engine.models.loading import adapter_reader
from loradock.engine.process.assembly import build_loop
from loradock.engine.process.options import read_options
from loradock.engine.scheduling.loop import EngineLoop
from loradock.registry.bases.builtin import builtin_file


def save_adapter(folder: Path, a: Architecture, seed: int, rank: int) -> Path:
    """A random adapter on all seven projections."""
    folder.mkdir(parents=True)
    names = list(a.linears())
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": names, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    random = np.random.default_rng(seed)
    tensors = {}
    for layer in range(a.layers):
        for name, (out, into) in a.linears().items():
            path = f"base_model.model.{a.module_path(layer, name)}"
            tensors[f"{path}.lora_A.weight"] = (random.standard_normal((rank, into)) / into**0.5).astype(np.float32)
            tensors[f"{path}.lora_B.weight"] = (random.standard_normal((out, rank)) / 50).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


class Decoding:
    """Runs `rows` equal-length sequences on the real loop and times the steps in which all of them got a token."""

    loop: EngineLoop

    def __init__(self) -> None:
        self._ids, self._steps = 0, []
        self._done = threading.Event()
        self._rows = self._ended = 0

    def deliver(self, events: list) -> None:
        tokens = [event for _, event in events if isinstance(event, TokenSampled)]
        if len(tokens) == self._rows and not any(event.finish for event in tokens):
            self._steps.append(time.perf_counter())
        self._ended += sum(event.finish is not None for event in tokens)
        if self._ended == self._rows:
            self._done.set()

    def run(self, owners: list[LoadedAdapter | None], prompt: int, tokens: int) -> float:
        """Median seconds per step."""
        self._steps, self._rows, self._ended = [], len(owners), 0
        self._done.clear()
        random = np.random.default_rng(self._ids)
        params = SamplingParams(max_tokens=tokens + 2 * len(owners), temperature=0.0, ignore_eos=True)
        for owner in owners:
            self._ids += 1
            ids = [int(t) for t in random.integers(100, 40000, prompt)]
            sequence = Sequence(self._ids, ids, params, owner)
            self.loop.submit([Generation(sequence, lambda event: None, frozenset())])
        assert self._done.wait(120)
        # Streams go on while the prompts of the others are computed: the first one may be at its end by then.
        return statistics.median(np.diff(self._steps)) if len(self._steps) > 1 else float("nan")


def products(a: Architecture, rows: int, threads: int) -> dict[str, OwnProducts]:
    """The base model's bf16 products alone."""
    shapes = [
        ((a.heads + 2 * a.kv_heads) * a.head_dim, a.hidden_size),
        (a.hidden_size, a.heads * a.head_dim),
        (2 * a.intermediate_size, a.hidden_size),
        (a.hidden_size, a.intermediate_size),
    ]
    weights = [random_bits(*shape, seed=number) for number, shape in enumerate(shapes * a.layers)]
    return own_ways([*weights, random_bits(a.vocab_size, a.hidden_size, seed=0)], rows, threads)


def measure(arguments: argparse.Namespace, folder: Path) -> list[dict]:
    # A step is to be one token of each.
    fixed = ("--max-loras", "64", "--speculative-tokens", "0", "--threads", str(arguments.threads))
    options = read_options(["--model", str(arguments.model), *fixed, *arguments.option])
    begun = time.perf_counter()
    decoding = Decoding()
    loop = decoding.loop = build_loop(options, decoding.deliver, print)
    print(f"loaded in {time.perf_counter() - begun:.2f} s, {loop.runner.threads} threads", flush=True)
    model = loop.runner.model
    reader = adapter_reader(model)
    adapters = [
        reader.read(f"a{n}", save_adapter(folder / f"a{n}", model.architecture, n, arguments.rank))
        for n in range(max(arguments.adapters))
    ]
    loop.start()
    loop.call(loop.runner.warm_up).result()
    lines = []
    for rows in arguments.rows:
        ways = {} if arguments.no_roofline else products(model.architecture, rows, arguments.threads)
        roofs: dict[str, list[float]] = {name: [] for name in ways}
        seconds: dict[int, list[float]] = {count: [] for count in arguments.adapters if count <= max(rows, 1)}
        for count in seconds:
            decoding.run(_owners(adapters, count, rows), arguments.prompt, 24)
        for _ in range(arguments.repeats):
            for name, way in ways.items():
                roofs[name].append(rows / loop.call(lambda way=way: step_seconds(way, 0.3)).result())
            for count, found in seconds.items():
                found.append(decoding.run(_owners(adapters, count, rows), arguments.prompt, arguments.tokens))
        roof = max((statistics.median(rates) for rates in roofs.values()), default=None)
        base = statistics.median(seconds[0]) if 0 in seconds else None
        for count, found in seconds.items():
            rate = rows / float(statistics.median(found))
            line = {"rows": rows, "adapters": count, "tokens_per_second": round(rate, 1)}
            line |= {"of_base": round(base * rate / rows, 3)} if base else {}
            line |= {"roofline": round(roof), "of_roofline": round(rate / roof, 3)} if roof else {}
            lines.append(line)
            print(line, flush=True)
    loop.stop(5)
    return lines


def _owners(adapters: list[LoadedAdapter], count: int, rows: int) -> list[LoadedAdapter | None]:
    return [adapters[n % count] if count else None for n in range(rows)]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", type=Path, default=builtin_file())
    p.add_argument("--rows", nargs="+", type=int, default=[1, 8, 32, 64])
    p.add_argument("--adapters", nargs="+", type=int, default=[0, 1, 8, 32])
    p.add_argument("--rank", type=int, default=8)
    p.add_argument("--prompt", type=int, default=32, help="tokens")
    p.add_argument("--tokens", type=int, default=48, help="generated per sequence, and two more for each of them")
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--no-roofline", action="store_true")
    p.add_argument("--option", nargs="*", default=[], help="further options of the engine, as name=value")
    p.add_argument("--json", type=Path)
    arguments = p.parse_args()
    arguments.option = [f"--{option}" for option in arguments.option]
    with tempfile.TemporaryDirectory() as folder:
        lines = measure(arguments, Path(folder))
    if arguments.json:
        arguments.json.write_text(json.dumps(lines, indent=1))


if __name__ == "__main__":
    main()
