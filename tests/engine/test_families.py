"""Every decoder family's logits against transformers, on small random models."""

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
from loradock.engine.kv import KVCache
from loradock.engine.model import load_model
from loradock.engine.runner import Runner

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
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**SIZES, tie_word_embeddings=True)),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**SIZES, head_dim=32)),
}
PROMPT, CHUNK, DECODED = 50, 17, 6


@pytest.fixture(params=FAMILIES)
def models(request, tmp_path):
    kind, config = FAMILIES[request.param]
    torch.manual_seed(0)
    reference = kind(config).eval()
    for parameter in reference.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    reference.save_pretrained(tmp_path, max_shard_size="60KB" if request.param == "llama" else "5GB")
    assert (tmp_path / "model.safetensors.index.json").exists() == (request.param == "llama")
    return reference, load_model(tmp_path, torch.float32)


def test_logits_agree_in_chunked_prefill_and_decode(models):
    reference, model = models
    tokens = torch.randint(0, 97, (PROMPT + DECODED,), generator=torch.Generator().manual_seed(1)).tolist()
    with torch.inference_mode():
        expected = reference(torch.tensor([tokens])).logits[0]
    cache = KVCache(model.architecture, 16, torch.float32)
    runner = Runner(model, cache)
    sequence = Sequence(1, tokens[:PROMPT], SamplingParams())
    assert cache.allocate(sequence, len(tokens))
    found = [runner.step([Row(sequence, count, count)]) for count in (CHUNK, CHUNK, PROMPT - 2 * CHUNK)]
    for token in tokens[PROMPT:]:
        sequence.output.append(token)
        found.append(runner.step([Row(sequence, 1, 1)]))
    torch.testing.assert_close(torch.cat(found), expected, rtol=1e-4, atol=1e-4)
