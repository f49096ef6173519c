"""What weights, keys and values in fewer bits cost in accuracy: held against the model in float32, on a fixed text.

    python benchmarks/engine_quantization.py

Per mode: perplexity, how often the likeliest next token is the reference's, and the mean divergence from its
distribution (nats). With int8 and int4 activations are rounded too. Every position is computed in a step of its own, on
the keys and values that its mode has stored so far; steps of many rows round each of them in the same way.
"""

import argparse
from pathlib import Path

import torch

from loradock.engine.core import Row, SamplingParams, Sequence
from loradock.engine.dtypes import Dtype
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.models.loading import load_model
from loradock.engine.models.runner import Runner
from loradock.engine.text.tokenizer import load_tokenizer
from loradock.registry.bases.builtin import builtin_file

TEXT = Path(__file__).parent.parent / "README.md"
MODES = {
    "float32": (Dtype.FLOAT32, None, False),
    "float32, int8 KV cache": (Dtype.FLOAT32, None, True),
    "bfloat16": (Dtype.BFLOAT16, None, False),
    "bfloat16, int8 KV cache": (Dtype.BFLOAT16, None, True),
    "int8": (Dtype.BFLOAT16, 8, False),
    "int8, int8 KV cache": (Dtype.BFLOAT16, 8, True),
    "int4": (Dtype.BFLOAT16, 4, False),
    "int4, int8 KV cache": (Dtype.BFLOAT16, 4, True),
}
"""The type of numbers, the bits of a layer's weights, and whether keys and values have 8."""


def logits(model: Path, mode: str, tokens: list[int], threads: int) -> torch.Tensor:
    """float32 log probabilities `[positions, vocab]`."""
    dtype, bits, int8_cache = MODES[mode]
    decoder = load_model(model, dtype, bits=bits)
    cache = KVCache(decoder.architecture, len(tokens) // 16 + 2, dtype, int8=int8_cache)
    runner = Runner(decoder, cache, threads)
    sequence = Sequence(1, tokens, SamplingParams())
    cache.allocate(sequence, len(tokens))
    found = [torch.from_numpy(runner.step([Row(sequence, 1, 1)]).values) for _ in tokens]
    return torch.cat(found).log_softmax(dim=-1)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", type=Path, default=builtin_file())
    p.add_argument("--tokens", type=int, default=512)
    p.add_argument("--threads", type=int, default=1)
    arguments = p.parse_args()
    from loradock.checkpoints.base_config import read_architecture

    tokenizer = load_tokenizer(arguments.model, read_architecture(arguments.model)).tokenizer
    tokens = tokenizer.encode(TEXT.read_text()).ids[: arguments.tokens]
    targets = torch.tensor(tokens[1:])
    reference = logits(arguments.model, "float32", tokens, arguments.threads)[:-1]
    print(f"{len(tokens)} tokens of {TEXT.name}\nmode                     perplexity  same first token  divergence")
    for mode in MODES:
        found = reference if mode == "float32" else logits(arguments.model, mode, tokens, arguments.threads)[:-1]
        perplexity = (-found.gather(1, targets.unsqueeze(1)).mean()).exp().item()
        same = (found.argmax(1) == reference.argmax(1)).float().mean().item()
        divergence = (reference.exp() * (reference - found)).sum(1).mean().item()
        print(f"{mode:24} {perplexity:10.3f} {same:16.1%} {divergence:12.5f}", flush=True)


if __name__ == "__main__":
    main()
