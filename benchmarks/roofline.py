"""The most that this machine's bfloat16 matrix products allow: one decoding step of 32 rows and nothing else.

    python -m benchmarks.roofline

All products of SmolLM2-135M with its true shapes and as many different weights, so that caches help no more than in a
real step; as PyTorch does them, and with the weights packed beforehand by oneDNN. Attention, norms, sampling and HTTP
cost nothing here.
"""

import json
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
    records.add(kind="roofline", **json.loads(done.stdout))


def main(seconds: float = 2.0) -> dict[str, float]:
    """Tokens per second and GFLOP/s of the better way."""
    import torch

    weights = [torch.randn(out, inner, dtype=torch.bfloat16) for inner, out in PRODUCTS * LAYERS]
    weights.append(torch.randn(HEAD[1], HEAD[0], dtype=torch.bfloat16))
    rows = {inner: torch.randn(ROWS, inner, dtype=torch.bfloat16) for inner in (576, 1536)}
    packed = [torch.ops.mkldnn._reorder_linear_weight(weight, ROWS) for weight in weights]

    def plain() -> None:
        for weight in weights:
            torch.nn.functional.linear(rows[weight.shape[1]], weight)

    def prepared() -> None:
        for weight, shape in zip(packed, weights, strict=True):
            torch.ops.mkldnn._linear_pointwise(rows[shape.shape[1]], weight, None, "none", [], "")

    with torch.inference_mode():
        step = min(_step(plain, seconds), _step(prepared, seconds))
    flops = 2 * ROWS * sum(weight.numel() for weight in weights)
    return {"tokens_per_s": ROWS / step, "gflops": flops / step / 1e9}


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
