"""Tiny models of many shapes with transformers' logits, and a program that starts an engine on each and compares.

python -m tests.engine.shapes FOLDER… [--dtype …]   # one JSON line per folder: {"folder": …, "difference": …}
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np

FILE = "expected.npz"
TOKENS = 70
FAR = {"float32": 1e-3, "bfloat16": 0.15}
"""How far a row of logits may be from transformers' in float32 (root mean square, in standard deviations)."""
CLASSES = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", {}),
    "mistral": ("MistralForCausalLM", "MistralConfig", {"sliding_window": 24}),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", {}),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {}),
}


def shape(number: int) -> dict:
    """One of many: head sizes 16 to 256, 1 to 8 heads per key-value head, widths with all kinds of remainders."""
    random = np.random.default_rng(number)
    group = number % 8 + 1
    dim = [16, 32, 48, 64, 80, 96, 128, 256][(number * 3 + number // 8) % 8]
    kv_heads = int(random.integers(1, 4))
    if group * kv_heads * dim % 32:
        kv_heads *= 2
    family = [*CLASSES][number % len(CLASSES)]
    unit = math.lcm(32, kv_heads * group) if family == "llama" else 32  # transformers wants whole heads there
    return {
        "family": family,
        "head_dim": dim,
        "num_key_value_heads": kv_heads,
        "num_attention_heads": kv_heads * group,
        "hidden_size": unit * int(random.integers(1, 1 + max(1, 256 // unit))),
        "intermediate_size": 32 * int(random.integers(2, 12)),
        "vocab_size": 16 * int(random.integers(8, 60)),
        "num_hidden_layers": int(random.integers(1, 4)),
        "tie_word_embeddings": bool(random.integers(0, 2)),
    }


def save(folder: Path, sizes: dict) -> Path:
    """Write the model and what transformers makes of some tokens."""
    import torch
    import transformers

    model_class, config_class, more = CLASSES[sizes["family"]]
    settings = {key: value for key, value in sizes.items() if key != "family"}
    config = getattr(transformers, config_class)(
        **settings, **more, max_position_embeddings=256, initializer_range=0.15, bos_token_id=0, eos_token_id=1
    )
    torch.manual_seed(0)
    model = getattr(transformers, model_class)(config).float().eval()
    tokens = np.random.default_rng(0).integers(0, sizes["vocab_size"], TOKENS)
    with torch.inference_mode():
        logits = model(torch.from_numpy(tokens)[None]).logits[0].numpy()
    model.save_pretrained(folder)
    np.savez(folder / FILE, tokens=tokens, logits=logits)
    return folder


def difference(folder: Path, dtype: str) -> float:
    """Start an engine on the folder, compute prompt and single tokens, and compare with what transformers made."""
    from loradock.engine.core import Row, SamplingParams, Sequence
    from loradock.engine.process.assembly import build_loop
    from loradock.engine.process.options import read_options
    from loradock.engine.self_check.proof import prove

    loop = build_loop(read_options(["--model", str(folder), "--dtype", dtype, "--threads", "2"]), print, print)
    prove(loop.runner.model, loop.runner.threads)
    expected = np.load(folder / FILE)
    sequence = Sequence(0, expected["tokens"].tolist(), SamplingParams(prompt_logprobs=0))
    loop.runner.cache.allocate(sequence, TOKENS)
    counts = [40, 16, 7, *[1] * 7]
    found = np.concatenate([loop.runner.step([Row(sequence, n, n)]).values for n in counts])
    off = np.sqrt(((found - expected["logits"]) ** 2).mean(axis=1)).max()
    return float(off / expected["logits"].std())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--dtype", nargs="+", default=["bfloat16"])
    wanted = parser.parse_args()
    for folder in wanted.folders:
        for dtype in wanted.dtype:
            line = {"folder": folder.name, "dtype": dtype, "difference": difference(folder, dtype)}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
