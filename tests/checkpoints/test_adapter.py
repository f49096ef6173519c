"""Adapters that PEFT itself saved: read alike, served or refused by name."""

import json
import shutil
from functools import cache
from pathlib import Path

import pytest

from loradock.checkpoints.adapters.adapter import AdapterConfig, read_adapter_config
from loradock.checkpoints.adapters.inspection import check_shapes, inspect_adapter
from loradock.checkpoints.adapters.module_pattern import BadPattern, matcher
from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.base_config import read_architecture
from loradock.types.errors import AdapterRefused
from tests.peft_models import peft_model, save_adapter, save_base

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SERVED = {
    "plain": {},
    "every projection": {"target_modules": ALL, "r": 8},
    "rsLoRA": {"use_rslora": True, "r": 3},
    "all-linear": {"target_modules": "all-linear"},
    "an expression": {"target_modules": r"model\.layers\.[02]\.(self_attn\.(q|o)|mlp\.(up|down))_proj"},
    "look-around": {"target_modules": r"^(?!.*lm_head).*\.(q_proj|v_proj)"},
    "some layers": {"layers_to_transform": [0, 2]},
    "one layer": {"layers_to_transform": 1, "layers_pattern": "layers"},
    "excluded": {"target_modules": "all-linear", "exclude_modules": ["k_proj", "model.layers.1.mlp.up_proj"]},
    "patterns": {
        "target_modules": ALL,
        # in the order in which PEFT's sorted JSON gives them back
        "rank_pattern": {r"^model\.layers\.1\..*_proj": 6, "layers.2.mlp.down_proj": 5, "q_proj": 2},
        "alpha_pattern": {r".*\.2\.self_attn\.(k|v)_proj": 32, "up_proj": 1},
    },
    "patterns with rsLoRA": {"use_rslora": True, "rank_pattern": {"q_proj": 9}, "alpha_pattern": {"v_proj": 3}},
    "first pattern wins": {"rank_pattern": {"layers.0.self_attn.q_proj": 2, "q_proj": 7}},
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "mica": {"init_lora_weights": "mica"},
}
REFUSED = {
    "DoRA": {"use_dora": True},
    "modules_to_save": {"modules_to_save": ["lm_head"]},
    "lora_bias": {"lora_bias": True},
    "biases": {"bias": "all", "sizes": {"attention_bias": True}},
    "PiSSA": {"init_lora_weights": "pissa_niter_2"},
    "OLoRA": {"init_lora_weights": "olora"},
    "aLoRA": {"alora_invocation_tokens": [1, 2]},
    "trainable_token_indices": {"trainable_token_indices": [1]},
    "embed_tokens": {"target_modules": ["q_proj", "embed_tokens"]},
    "lm_head": {"target_modules": ["q_proj", "lm_head"], "sizes": {"tie_word_embeddings": False}},
    "embeddings": {"target_modules": r".*(embed_tokens|q_proj)"},
    "SEQ_CLS": {"task_type": "SEQ_CLS"},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Architecture:
    return read_architecture(save_base(tmp_path_factory.mktemp("base")))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """settings → a folder of its own, made by PEFT once."""
    root = tmp_path_factory.mktemp("adapters")

    @cache
    def make(settings: str) -> Path:
        return save_adapter(root / str(len(list(root.iterdir()))), **json.loads(settings))

    return lambda **settings: make(json.dumps(settings))


@pytest.fixture
def plain(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved(), tmp_path / "adapter"))


def change_config(folder: Path, **changed) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))


@pytest.mark.parametrize("settings", SERVED.values(), ids=SERVED)
def test_served_kinds_scale_as_in_peft(settings, saved, base):
    folder = saved(**settings)
    report = inspect_adapter(folder, base)
    layers = {
        name.removeprefix("base_model.model."): module
        for name, module in peft_model(**settings).named_modules()
        if hasattr(module, "lora_A")
    }
    assert {pair.module_path for pair in report.pairs} == set(layers)
    for pair in report.pairs:
        layer = layers[pair.module_path]
        assert pair.rank == report.config.rank_of(pair.module_path) == layer.r["default"]
        assert pair.scaling == layer.scaling["default"]
    assert report.max_rank == max(layer.r["default"] for layer in layers.values())
    assert report.size_bytes == (folder / "adapter_model.safetensors").stat().st_size
    assert report.config.base_model == "tester/tiny"


@pytest.mark.parametrize("name", REFUSED)
def test_other_kinds_are_refused_by_name(name, saved, base, tmp_path):
    settings = REFUSED[name]
    if name == "SEQ_CLS":
        folder = Path(shutil.copytree(saved(), tmp_path / "a"))
        change_config(folder, **settings)
    else:
        folder = saved(**settings)
    with pytest.raises(AdapterRefused) as refused:
        inspect_adapter(folder, base)
    assert name in str(refused.value)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"peft_type": "IA3"}, "IA3"),
        ({"peft_type": "PREFIX_TUNING"}, "PREFIX_TUNING"),
        ({"init_lora_weights": "loftq"}, "LoftQ"),
        ({"init_lora_weights": "corda"}, "CorDA"),
        ({"init_lora_weights": "lora_ga"}, "LoRA-GA"),
        ({"use_qalora": True}, "QA-LoRA"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "layer_replication"),
        ({"megatron_config": {"a": 1}}, "Megatron"),
        ({"target_parameters": ["mlp.experts.gate_up_proj"]}, "expert"),
        ({"fan_in_fan_out": True}, "Conv1D"),
        ({"arrow_config": {"top_k": 3}}, "Arrow"),
        ({"use_bdlora": {"nblocks": 2}}, "BD-LoRA"),
        ({"kasa_config": {"r": 1}}, "KaSA"),
        ({"r": 0}, "rank r=0"),
        ({"r": 4.5}, "rank r=4.5"),
        ({"r": "8"}, "rank r='8'"),
        ({"lora_alpha": float("nan")}, "alpha lora_alpha=nan"),
        ({"lora_alpha": None}, "alpha"),
        ({"rank_pattern": {"q_proj": -1}}, "rank q_proj=-1"),
        ({"rank_pattern": {"(q_proj": 1}}, "not a regular expression"),
        ({"rank_pattern": ["q_proj"]}, "rank_pattern"),
        ({"target_modules": [1]}, "target_modules"),
        ({"layers_to_transform": ["x"]}, "layers_to_transform"),
        ({"r": 8}, "adapter_config.json says 8"),
        ({"target_modules": ["q_proj"]}, "does not target model.layers.0.self_attn.v_proj"),
        ({"exclude_modules": ["q_proj"]}, "does not target model.layers.0.self_attn.q_proj"),
        ({"layers_to_transform": [0]}, "does not target model.layers.1"),
        ({"target_modules": ["q_proj", "v_proj", "o_proj"]}, "no tensors for it (3 of 9 missing)"),
    ],
)
def test_configs_that_lie_or_ask_for_more(changed, said, plain, base):
    change_config(plain, **changed)
    with pytest.raises(AdapterRefused) as refused:
        inspect_adapter(plain, base)
    assert said in str(refused.value)


def test_an_adapter_of_another_base_is_told_the_shapes(plain, base, tmp_path):
    wider = read_architecture(save_base(tmp_path / "wider", hidden_size=64))
    shallower = read_architecture(save_base(tmp_path / "shallower", num_hidden_layers=2))
    with pytest.raises(AdapterRefused, match="32x32 in the adapter but 64x64 in the base model"):
        inspect_adapter(plain, wider)
    report = inspect_adapter(plain, None)
    with pytest.raises(AdapterRefused, match=r"layers\.2\.\S+ does not exist in the base model \(2 layers\)"):
        check_shapes(report, plain, shallower)
    check_shapes(report, plain, base)


@pytest.mark.parametrize("content", ["", "[]", "{", "null", "[" * 100_000, '{"r": ' + "9" * 5000 + "}"])
def test_configs_that_are_no_configs(content, plain):
    (plain / "adapter_config.json").write_text(content)
    with pytest.raises(AdapterRefused, match=r"adapter_config\.json"):
        read_adapter_config(plain)


def test_missing_files_and_pickles(plain):
    (plain / "adapter_model.safetensors").rename(plain / "adapter_model.bin")
    with pytest.raises(AdapterRefused, match=r"adapter_model\.bin is a pickle.*safe_serialization"):
        inspect_adapter(plain, None)
    (plain / "adapter_model.bin").unlink()
    with pytest.raises(AdapterRefused, match=r"adapter_model\.safetensors is missing"):
        inspect_adapter(plain, None)
    (plain / "adapter_config.json").unlink()
    with pytest.raises(AdapterRefused, match=r"adapter_config\.json is missing"):
        inspect_adapter(plain, None)


def test_a_pattern_never_stalls_the_server():
    evil = matcher(r"([\w.]+)+!")
    assert not evil("model.layers.0.self_attn.q_proj")
    with pytest.raises(BadPattern):
        matcher(r"(\w{1000}){1000}")
    with pytest.raises(BadPattern):
        matcher("(a|b)" * 1000)


@pytest.mark.parametrize(
    "pattern", ["q_proj", "q.proj", "proj", ".*q_proj", "^model.*q_proj", "layers.0.*", "x|.*_proj"]
)
@pytest.mark.parametrize("path", ["model.layers.0.self_attn.q_proj", "q_proj", "model.layers.10.mlp.up_proj"])
def test_patterns_match_as_in_peft(pattern, path):
    from peft.utils.other import get_pattern_key

    config = AdapterConfig(base_model=None, rank=1, alpha=1.0, rank_pattern={pattern: 2})
    assert config.rank_of(path) == {pattern: 2}.get(get_pattern_key([pattern], path), 1)
