"""The most that this machine's bfloat16 matrix products allow: one decoding step of 32 rows and nothing else.

    python -m benchmarks.roofline

All products of SmolLM2-135M with its true shapes and as many different weights, so that caches help no more than in a
real step; as PyTorch does them, with the weights packed beforehand by oneDNN, and by the engine's own kernels, a lane
for each core or all cores sharing each product. The roofline is the best of these. Attention, norms, sampling and HTTP
cost nothing here.
"""

import json
import os
import subprocess
import sys
import time

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
    import torch

    weights = [torch.randn(out, inner, dtype=torch.bfloat16) for inner, out in PRODUCTS * LAYERS]
    weights.append(torch.randn(HEAD[1], HEAD[0], dtype=torch.bfloat16))
    with torch.inference_mode():
        rates = {name: ROWS / _step(work, seconds) for name, work in _ways(weights).items()}
    best = max(rates, key=lambda name: rates[name])
    flops = 2 * sum(weight.numel() for weight in weights)
    said = {f"{name}_tokens_per_s": rate for name, rate in rates.items()}
    return {"tokens_per_s": rates[best], "by": best, "gflops": flops * rates[best] / 1e9, **said}


def _ways(weights):
    import torch

    from benchmarks.own_products import OwnProducts

    rows = {inner: torch.randn(ROWS, inner, dtype=torch.bfloat16) for inner in (576, 1536)}
    supported = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    packed = [torch.ops.mkldnn._reorder_linear_weight(weight, ROWS) for weight in weights if supported]

    def plain() -> None:
        for weight in weights:
            torch.nn.functional.linear(rows[weight.shape[1]], weight)

    def prepared() -> None:
        for weight, shape in zip(packed, weights, strict=True):
            torch.ops.mkldnn._linear_pointwise(rows[shape.shape[1]], weight, None, "none", [], "")

    threads, ways = len(os.sched_getaffinity(0)), {"own": False, "own_together": True}
    own = {name: OwnProducts(weights, ROWS, threads, together=together) for name, together in ways.items()}
    return {"torch": plain, **({"onednn": prepared} if supported else {}), **own}


def _step(work, seconds: float) -> float:
    """The median step in seconds."""
    for _ in range(3):
        work()
    took, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until:
        begun = time.perf_counter()
        work()
        took.append(time.perf_counter() - begun)
    return sorted(took)[len(took) // 2]


if __name__ == "__main__":
    print(json.dumps(main()))
