"""Every decoder family's logits against transformers, on small random models."""

import json

import numpy as np
import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from loradock.engine.core import Row, SamplingParams, Sequence
from loradock.engine.dtypes import Dtype
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.models.loading import load_model
from loradock.engine.models.runner import Runner
from tests.gguf_files import write_gguf

SIZES = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
FAMILIES = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SIZES, tie_word_embeddings=False)),
    "smollm": (LlamaForCausalLM, LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "llama3 rope": (LlamaForCausalLM, LlamaConfig(**SIZES, rope_parameters=LLAMA3_ROPE)),
    "mistral": (MistralForCausalLM, MistralConfig(**SIZES, sliding_window=None)),
    "mistral window": (MistralForCausalLM, MistralConfig(**SIZES, sliding_window=24)),
    "linear rope": (
        LlamaForCausalLM,
        LlamaConfig(**SIZES, rope_parameters={"rope_type": "linear", "rope_theta": 5000.0, "factor": 3.0}),
    ),
    "qwen2 window": (
        Qwen2ForCausalLM,
        Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=24, max_window_layers=0),
    ),
    "qwen2 window nowhere": (
        Qwen2ForCausalLM,
        Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=24, max_window_layers=3),
    ),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**SIZES, tie_word_embeddings=True)),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**SIZES, head_dim=32)),
}
PROMPT, CHUNK, DECODED = 50, 17, 6


def random_model(kind, config):
    torch.manual_seed(0)
    reference = kind(config).eval()
    for parameter in reference.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return reference


@pytest.fixture(params=FAMILIES)
def models(request, tmp_path):
    reference = random_model(*FAMILIES[request.param])
    reference.save_pretrained(tmp_path, max_shard_size="60KB" if request.param == "llama" else "5GB")
    assert (tmp_path / "model.safetensors.index.json").exists() == (request.param == "llama")
    return reference, tmp_path


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "torch"])
def test_logits_agree_in_chunked_prefill_and_decode(models, kernels):
    reference, folder = models
    check_logits(reference, load_model(folder, Dtype.FLOAT32, kernels=kernels))


def test_logits_agree_where_the_config_is_spelled_as_by_transformers_4(tmp_path):
    reference = random_model(LlamaForCausalLM, LlamaConfig(**SIZES, rope_parameters=LLAMA3_ROPE))
    reference.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
    (tmp_path / "config.json").write_text(json.dumps(config))
    check_logits(reference, load_model(tmp_path, Dtype.FLOAT32))


def test_logits_agree_where_llama3_rope_comes_as_a_tensor_in_gguf(tmp_path):
    reference = random_model(LlamaForCausalLM, LlamaConfig(**SIZES, rope_parameters=LLAMA3_ROPE))
    file = write_gguf(tmp_path / "llama3.gguf", reference)
    check_logits(reference, load_model(file, Dtype.FLOAT32))


def check_logits(reference, model):
    tokens = torch.randint(0, 97, (PROMPT + DECODED,), generator=torch.Generator().manual_seed(1)).tolist()
    with torch.inference_mode():
        expected = reference(torch.tensor([tokens])).logits[0]
    cache = KVCache(model.architecture, 16, Dtype.FLOAT32)
    runner = Runner(model, cache)
    sequence = Sequence(1, tokens[:PROMPT], SamplingParams())
    assert cache.allocate(sequence, len(tokens))
    found = [runner.step([Row(sequence, count, count)]).values for count in (CHUNK, CHUNK, PROMPT - 2 * CHUNK)]
    for token in tokens[PROMPT:]:
        sequence.output.append(token)
        found.append(runner.step([Row(sequence, 1, 1)]).values)
    torch.testing.assert_close(torch.from_numpy(np.concatenate(found)), expected, rtol=1e-4, atol=1e-4)
