"""Small random decoders and the adapters that the real PEFT saves for them."""

import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

logging.disable_progress_bar()

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}


def llama(**changed) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**{**SIZES, **changed}))


def save_base(folder: Path, **changed) -> Path:
    llama(**changed).save_pretrained(folder)
    return folder


def peft_model(base: str = "tester/tiny", sizes: dict | None = None, seed: int = 0, **config) -> PeftModel:
    """A decoder with one adapter whose every LoRA weight is random (a fresh B is zero)."""
    model = llama(**sizes or {})
    model.name_or_path = base
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM", **config}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT meets transformers' own deprecations
        adapted = get_peft_model(model, LoraConfig(**settings))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
    return adapted


def save_adapter(folder: Path, **arguments) -> Path:
    """A folder as PEFT writes it; arguments as for peft_model."""
    adapted = peft_model(**arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted.save_pretrained(folder, save_embedding_layers=False)
    return folder
