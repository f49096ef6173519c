"""The most that this machine's bfloat16 matrix products allow: one decoding step of 32 rows and nothing else.

    python -m benchmarks.roofline

All products of SmolLM2-135M with its true shapes and as many different weights, so that caches help no more than in a
real step; by the engine's own kernels, a lane for each core or all cores sharing each product, and where there is a
PyTorch as it does them, also with the weights packed beforehand by oneDNN. The roofline is the best of these.
Attention, norms, sampling and HTTP cost nothing here.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.own_products import OwnProducts, random_bits
from benchmarks.records import Records

ROWS, LAYERS = 32, 30
PRODUCTS = ((576, 960), (576, 576), (576, 3072), (1536, 576))
"""(in, out) per layer: query, key and value together; output; gate and up together; down."""
HEAD = (576, 49152)


def add_roofline(records: Records) -> None:
    """In a process of its own: PyTorch stays out of the client."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.roofline"], capture_output=True, text=True, check=True)
    row = json.loads(done.stdout)
    records.add(kind="roofline", **row)
    print(f"roofline: {row['tokens_per_s']:.0f} tokens/s by {row['by']}", flush=True)


def main(seconds: float = 1.5) -> dict[str, float | str]:
    """Tokens per second of each way, and of the best with its name and GFLOP/s."""
    shapes = [*PRODUCTS * LAYERS, HEAD]
    weights = [random_bits(out, inner, seed) for seed, (inner, out) in enumerate(shapes)]
    ways = {**own_ways(weights, ROWS, len(os.sched_getaffinity(0))), **_of_pytorch(weights)}
    rates = {name: ROWS / step_seconds(work, seconds) for name, work in ways.items()}
    best = max(rates, key=lambda name: rates[name])
    flops = 2 * sum(weight.size for weight in weights)
    said = {f"{name}_tokens_per_s": rate for name, rate in rates.items()}
    return {"tokens_per_s": rates[best], "by": best, "gflops": flops * rates[best] / 1e9, **said}


def own_ways(weights: Sequence[np.ndarray], rows: int, threads: int) -> dict[str, OwnProducts]:
    """`weights`: in bfloat16, as bits."""
    ways = {"own": False, "own_together": True}
    return {name: OwnProducts(weights, rows, threads, together=together) for name, together in ways.items()}


def _of_pytorch(given: Sequence[np.ndarray]) -> dict[str, Callable[[], None]]:
    try:
        import torch
    except ImportError:
        return {}
    torch.set_grad_enabled(False)
    weights = [torch.from_numpy(weight).view(torch.bfloat16) for weight in given]
    rows = {inner: torch.randn(ROWS, inner, dtype=torch.bfloat16) for inner in (576, 1536)}
    supported = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    packed = [torch.ops.mkldnn._reorder_linear_weight(weight, ROWS) for weight in weights if supported]

    def plain() -> None:
        for weight in weights:
            torch.nn.functional.linear(rows[weight.shape[1]], weight)

    def prepared() -> None:
        for weight, shape in zip(packed, weights, strict=True):
            torch.ops.mkldnn._linear_pointwise(rows[shape.shape[1]], weight, None, "none", [], "")

    return {"torch": plain, **({"onednn": prepared} if supported else {})}


def step_seconds(work: Callable[[], object], seconds: float) -> float:
    """The median step."""
    for _ in range(3):
        work()
    took, until = list[float](), time.perf_counter() + seconds
    while time.perf_counter() < until:
        begun = time.perf_counter()
        work()
        took.append(time.perf_counter() - begun)
    return sorted(took)[len(took) // 2]


if __name__ == "__main__":
    print(json.dumps(main()))
