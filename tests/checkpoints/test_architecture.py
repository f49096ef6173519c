"""Configurations that are served, and those refused by name."""

import json
from pathlib import Path

import pytest
from gguf import GGUFValueType, GGUFWriter
from transformers import LlamaConfig, LlamaForCausalLM

from loradock.checkpoints.base_config import from_config, read_architecture
from loradock.checkpoints.gguf.gguf_metadata import open_gguf
from loradock.types.errors import BadRequest
from tests.gguf_files import write_gguf

CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
WINDOW = {"use_sliding_window": True, "sliding_window": 32}
MISTRAL = {"architectures": ["MistralForCausalLM"], "sliding_window": 32}


WINDOWS = {
    "switched off": ({"use_sliding_window": False, "sliding_window": 32, "max_window_layers": 0}, None),
    "on from no layer on": ({**WINDOW, "max_window_layers": 4}, None),
    "on from beyond the last layer on": ({**WINDOW, "max_window_layers": 28}, None),
    "on in every layer": ({**WINDOW, "max_window_layers": 0}, 32),
    "every layer by name": ({**WINDOW, "layer_types": ["sliding_attention"] * 4}, 32),
    "wider than the context": ({**WINDOW, "sliding_window": 256, "max_window_layers": 2}, None),
    "mistral": (MISTRAL, 32),
    "mistral without": ({**MISTRAL, "sliding_window": None}, None),
}


@pytest.mark.parametrize(("config", "window"), WINDOWS.values(), ids=WINDOWS)
def test_windows_are_read_as_transformers_reads_them(config, window):
    assert from_config({**CONFIG, **config}).sliding_window == window


REFUSED = {
    "a window in some layers": ({**WINDOW, "max_window_layers": 2}, "full_attention and sliding_attention"),
    "yarn": ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "'yarn'"),
    "half a head rotated": ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    "another activation": ({"hidden_act": "gelu"}, "'gelu'"),
    "another family": ({"architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel"),
}


@pytest.mark.parametrize(("config", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_served_is_refused_by_name(config, said):
    with pytest.raises(BadRequest, match=said):
        from_config({**CONFIG, **config})


UNREADABLE = {
    "no object": [],
    "nothing": None,
    "no heads": {**CONFIG, "num_attention_heads": 0},
    "an endless size": {**CONFIG, "hidden_size": float("inf")},
    "a list for an object": {**CONFIG, "rope_parameters": [1]},
    "a text for an object": {**CONFIG, "rope_scaling": "linear"},
}


@pytest.mark.parametrize("config", UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_refused(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadRequest, match=r"the config\.json of .* cannot be read"):
        read_architecture(tmp_path)


def test_what_is_nested_too_deeply_or_may_not_be_read_is_refused(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("[" * 200_000)
    with pytest.raises(BadRequest, match="cannot be read"):
        read_architecture(tmp_path)

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(BadRequest, match="cannot be read: Permission denied") as refused:
        read_architecture(tmp_path)
    assert str(tmp_path) not in refused.value.message


def test_a_gguf_with_a_number_for_each_layer_is_refused(tmp_path):
    sizes = {key: value for key, value in CONFIG.items() if key != "architectures"}
    file = write_gguf(tmp_path / "heads.gguf", LlamaForCausalLM(LlamaConfig(**sizes)), **{"attention.key_length": 0})
    reader = open_gguf(file)
    reader.fields["llama.attention.head_count"] = [4, 4, 4, 4]
    with pytest.raises(BadRequest, match=r"heads\.gguf cannot be read"):
        read_architecture(file)


def test_a_window_in_gguf_is_refused_by_name(tmp_path):
    sizes = {key: value for key, value in CONFIG.items() if key != "architectures"}
    model = LlamaForCausalLM(LlamaConfig(**sizes))
    file = write_gguf(tmp_path / "window.gguf", model, **{"attention.sliding_window": 32})
    with pytest.raises(BadRequest, match=r"attention\.sliding_window"):
        read_architecture(file)


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({}, r"token_embd\.weight"),
        ({"llama.attention.sliding_window": 8}, r"llama\.context_length"),
        ({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm"}, r"tokenizer\.ggml\.tokens"),
        ({"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["a"]}, r"tokenizer\.ggml\.token_type"),
    ],
)
def test_what_a_gguf_lacks_is_named(fields, missing, tmp_path):
    writer = GGUFWriter(tmp_path / "part.gguf", "llama")
    for key, value in fields.items():
        kind = GGUFValueType.ARRAY if isinstance(value, list) else GGUFValueType.get_type(value)
        writer.add_key_value(key, value, kind)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    with pytest.raises(BadRequest, match=f"has no {missing}: convert the model again"):
        read_architecture(tmp_path / "part.gguf")
