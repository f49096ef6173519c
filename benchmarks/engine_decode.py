"""Decode speed of the embedded engine in this process, without HTTP, beside the speed of its matrix products alone.

    python benchmarks/engine_decode.py                      # base, 8 and 32 mixed adapters at 1, 8, 32, 64 sequences
    python benchmarks/engine_decode.py --rows 32 --profile  # where a step's time goes

The roofline is what the base model's matrix products alone would reach at that many rows, measured in the same run:
the best of torch's own bf16 product and of weights packed by oneDNN.
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
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

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
        params = SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True)
        for owner in owners:
            self._ids += 1
            ids = [int(t) for t in random.integers(100, 40000, prompt)]
            sequence = Sequence(self._ids, ids, params, owner)
            self.loop.submit([Generation(sequence, lambda event: None, frozenset())])
        assert self._done.wait(120)
        return statistics.median(np.diff(self._steps))


def roofline(a: Architecture, rows: int, threads: int) -> dict[str, float]:
    """Tokens per second of the base model's bf16 products alone: torch's own, and packed by oneDNN.

    On the compute thread: helpers of another thread would slow the engine's.
    """
    torch.set_num_threads(threads)
    shapes = [
        ((a.heads + 2 * a.kv_heads) * a.head_dim, a.hidden_size),
        (a.hidden_size, a.heads * a.head_dim),
        (2 * a.intermediate_size, a.hidden_size),
        (a.hidden_size, a.intermediate_size),
    ]
    weights = [torch.randn(shape).bfloat16() for _ in range(a.layers) for shape in shapes]
    weights.append(torch.randn(a.vocab_size, a.hidden_size).bfloat16())
    inputs = {n: torch.randn(rows, n).bfloat16() for n in {w.shape[1] for w in weights}}
    plain = _fastest(lambda: [F.linear(inputs[w.shape[1]], w) for w in weights])
    packed = [(torch.ops.mkldnn._reorder_linear_weight(w, rows), inputs[w.shape[1]]) for w in weights]
    fast = _fastest(lambda: [torch.ops.mkldnn._linear_pointwise(x, w, None, "none", [], "") for w, x in packed])
    return {"torch": rows / plain, "packed": rows / fast}


def _fastest(work, repeats: int = 12) -> float:
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(sorted(times)[: repeats // 2 + 1])


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
        roof = (
            {}
            if arguments.no_roofline
            else loop.call(lambda rows=rows: roofline(model.architecture, rows, arguments.threads)).result()
        )
        seconds: dict[int, list[float]] = {count: [] for count in arguments.adapters if count <= max(rows, 1)}
        for count in seconds:
            decoding.run(_owners(adapters, count, rows), arguments.prompt, 24)
        for _ in range(arguments.repeats):
            for count, found in seconds.items():
                found.append(decoding.run(_owners(adapters, count, rows), arguments.prompt, arguments.tokens))
        base = statistics.median(seconds[0]) if 0 in seconds else None
        for count, found in seconds.items():
            rate = rows / float(statistics.median(found))
            line = {"rows": rows, "adapters": count, "tokens_per_second": round(rate, 1)}
            line |= {"of_base": round(base * rate / rows, 3)} if base else {}
            line |= {f"of_{name}_roofline": round(rate / value, 3) for name, value in roof.items()}
            lines.append(line)
            print(line, {k: round(v) for k, v in roof.items()}, flush=True)
    if arguments.profile:
        _profile(decoding, adapters, arguments)
    loop.stop(5)
    return lines


def _owners(adapters: list[LoadedAdapter], count: int, rows: int) -> list[LoadedAdapter | None]:
    return [adapters[n % count] if count else None for n in range(rows)]


def _profile(decoding: Decoding, adapters: list[LoadedAdapter], arguments: argparse.Namespace) -> None:
    for count in arguments.adapters:
        profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
        decoding.loop.call(profile.start).result()
        decoding.run(_owners(adapters, count, arguments.rows[-1]), arguments.prompt, 24)
        decoding.loop.call(profile.stop).result()
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=40))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", type=Path, default=builtin_file())
    p.add_argument("--rows", nargs="+", type=int, default=[1, 8, 32, 64])
    p.add_argument("--adapters", nargs="+", type=int, default=[0, 1, 8, 32])
    p.add_argument("--rank", type=int, default=8)
    p.add_argument("--prompt", type=int, default=32, help="tokens")
    p.add_argument("--tokens", type=int, default=48, help="generated per sequence")
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--profile", action="store_true")
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
