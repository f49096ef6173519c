"""Tensors that do not belong, do not fit or are not numbers."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from loradock.checkpoints.adapters.inspection import inspect_adapter
from loradock.types.errors import AdapterRefused
from tests.peft_models import save_adapter

LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def tensors(tmp_path_factory):
    folder = save_adapter(tmp_path_factory.mktemp("adapter"))
    return (folder / "adapter_config.json").read_text(), load_file(folder / "adapter_model.safetensors")


@pytest.fixture
def inspect(tensors, tmp_path):
    def run(change):
        weights = dict(tensors[1])
        change(weights)
        (tmp_path / "adapter_config.json").write_text(tensors[0])
        save_file(weights, tmp_path / "adapter_model.safetensors")
        return inspect_adapter(tmp_path, None)

    return run


def rename(weights, old, new):
    for name in list(weights):
        weights[name.replace(old, new)] = weights.pop(name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_three_float_types_are_served(inspect, dtype):
    report = inspect(lambda w: w.update({name: tensor.to(dtype) for name, tensor in w.items()}))
    assert report.target_modules == ["q_proj", "v_proj"]
    assert len(report.pairs) == 6


def test_keys_with_the_adapter_name_are_read(inspect):
    report = inspect(lambda w: rename(w, ".weight", ".default.weight"))
    assert report.pairs[0].a == f"{LAYER}.lora_A.default.weight"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_must_be_finite(inspect, dtype, value):
    def poison(weights):
        tensor = weights[f"{LAYER}.lora_B.weight"].to(dtype, copy=True)
        tensor[-1, -1] = value
        weights[f"{LAYER}.lora_B.weight"] = tensor

    with pytest.raises(AdapterRefused, match="not finite"):
        inspect(poison)


@pytest.mark.parametrize(
    ("change", "said"),
    {
        "half a pair": (lambda w: w.pop(f"{LAYER}.lora_B.weight"), "not its other half"),
        "both key styles": (
            lambda w: w.update({f"{LAYER}.lora_A.default.weight": w[f"{LAYER}.lora_A.weight"].clone()}),
            "with and without '.default'",
        ),
        "integers": (
            lambda w: w.update({f"{LAYER}.lora_A.weight": torch.zeros(4, 32, dtype=torch.int8)}),
            "float32, float16 or bfloat16",
        ),
        "float64": (lambda w: w.update({f"{LAYER}.lora_A.weight": torch.zeros(4, 32).double()}), "is F64"),
        "one dimension": (lambda w: w.update({f"{LAYER}.lora_A.weight": torch.zeros(128)}), r"F32 \[128\]"),
        "another rank in B": (lambda w: w.update({f"{LAYER}.lora_B.weight": torch.zeros(32, 3)}), "B has rank 3"),
        "an embedding": (
            lambda w: w.update({"base_model.model.model.embed_tokens.lora_embedding_A": torch.zeros(4, 64)}),
            "LoRA on embeddings",
        ),
        "a head": (
            lambda w: w.update({"base_model.model.lm_head.lora_A.weight": torch.zeros(4, 32)}),
            "LoRA on the output head",
        ),
        "a magnitude": (lambda w: w.update({f"{LAYER}.lora_magnitude_vector": torch.zeros(32)}), "DoRA"),
        "a bias": (lambda w: w.update({f"{LAYER}.base_layer.bias": torch.zeros(32)}), "trained biases"),
        "experts": (
            lambda w: w.update({"base_model.model.model.layers.0.mlp.experts.0.w1.lora_A.weight": torch.zeros(4, 32)}),
            "mixture-of-experts",
        ),
        "an endless name": (lambda w: w.update({"lm_head." * 500_000: torch.zeros(1)}), "4000000 characters"),
        "another module": (lambda w: rename(w, "q_proj", "query"), "unexpected tensor"),
        "a zero-padded layer": (lambda w: rename(w, "layers.0", "layers.00"), "unexpected tensor"),
        "nothing": (dict.clear, "holds no LoRA tensors"),
    }.values(),
)
def test_tensors_that_do_not_belong(inspect, change, said):
    with pytest.raises(AdapterRefused, match=said):
        inspect(change)


def test_target_modules_come_from_the_tensors_when_the_config_is_silent(tensors, tmp_path):
    config = json.loads(tensors[0])
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "target_modules": None}))
    save_file(tensors[1], tmp_path / "adapter_model.safetensors")
    assert inspect_adapter(tmp_path, None).target_modules == ["q_proj", "v_proj"]
