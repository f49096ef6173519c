"""Kinds of adapter that PEFT computes as plain LoRA: each engine's reading of what is kept gives PEFT's own numbers."""

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, PeftModel, VeraConfig, get_peft_model, save_as_lora
from peft.tuners.lora.config import MontecloraConfig, VeloraConfig
from safetensors.torch import load_file, save_file

from loradock.checkpoints.adapters.adapter_reasons import CONVERTIBLE
from loradock.checkpoints.adapters.embedding_tables import compare_tables
from loradock.checkpoints.adapters.inspection import inspect_adapter
from loradock.checkpoints.adapters.plain import is_plain, write_plain
from loradock.checkpoints.base_config import read_architecture
from loradock.engine.core import Row, SamplingParams, Sequence
from loradock.engine.dtypes import Dtype
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.models.loading import adapter_reader, load_model
from loradock.engine.models.runner import Runner
from loradock.types.errors import AdapterRefused
from tests.peft_models import llama, peft_model, save_base

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
PROMPT = (5, 9, 33, 2, 60, 11, 7)
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SETTINGS = {
    "patterns": {
        "target_modules": ALL,
        "rank_pattern": {r"^model\.layers\.1\..*_proj": 6, "q_proj": 2},
        "alpha_pattern": {"up_proj": 1, "v_proj": 32},
    },
    "rsLoRA with patterns": {"use_rslora": True, "rank_pattern": {"q_proj": 9}, "alpha_pattern": {"v_proj": 3}},
    "every module by its whole name": {
        "r": 16,
        "target_modules": ALL,
        "rank_pattern": {f"^model.layers.{n}.{m}": 3 for n in range(3) for m in ("self_attn.q_proj", "mlp.up_proj")}
        | {f"^model.layers.{n}.self_attn.{m}_proj": 3 for n in range(3) for m in "kvo"}
        | {f"^model.layers.{n}.mlp.{m}_proj": 3 for n in range(3) for m in ("gate", "down")},
    },
    "the patterns' rank below the config's": {"r": 128, "rank_pattern": {".*_proj": 4}},
    "a whole path beside layers_to_transform": {
        "target_modules": ["model.layers.1.self_attn.q_proj", "v_proj"],
        "layers_to_transform": [0],
    },
    "layers by pattern": {"layers_to_transform": [0, 2], "layers_pattern": ["layers"]},
    "an expression that excludes": {"target_modules": "all-linear", "exclude_modules": r".*\.mlp\..*"},
    "trained biases where there are none": {"bias": "all"},
    "biases of LoRA modules where there are none": {"bias": "lora_only"},
    "VeLoRA": {"velora_config": VeloraConfig(num_groups=4)},
    "MonteCLoRA": {"monteclora_config": MontecloraConfig()},
    "overlapping ranks": {"rank_pattern": {"self_attn.q_proj": 2, "q_proj": 7}},
}
REMARKED = {
    "trained biases where there are none": "no biases",
    "biases of LoRA modules where there are none": "no biases",
    "VeLoRA": "VeLoRA",
    "MonteCLoRA": "MonteCLoRA",
    "overlapping ranks": "sorts the keys when it saves",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def engine(base):
    return load_model(base, Dtype.FLOAT32, kernels=False)


def save(model, folder: Path, **options) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(folder, **{"save_embedding_layers": False, **options})
    return folder


def settled(folder: Path, base: Path) -> list[str]:
    """What an upload does with a folder, its base being at hand; the remarks."""
    architecture = read_architecture(base)
    report = inspect_adapter(folder, architecture)
    remarks = [*report.remarks, *compare_tables(folder, report, base, architecture)]
    if not is_plain(report):
        write_plain(folder, report)
    assert is_plain(inspect_adapter(folder, architecture))
    return remarks


@torch.inference_mode()
def numbers(model) -> torch.Tensor:
    return model.eval()(torch.tensor([PROMPT]), use_cache=False).logits[0].log_softmax(-1)


def as_vllm_reads(folder: Path) -> torch.Tensor:
    """With one scaling for all modules, and tensors by PEFT's names."""
    config, model = json.loads((folder / "adapter_config.json").read_text()), llama()
    scaling = config["lora_alpha"] / config["r"] ** (0.5 if config["use_rslora"] else 1)
    weights = load_file(folder / "adapter_model.safetensors")
    for name in [name for name in weights if name.endswith(".lora_A.weight")]:
        module = model.get_submodule(name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
        b, a = weights.pop(name.replace("lora_A", "lora_B")), weights.pop(name)
        assert len(a) <= config["r"]
        module.weight.data += scaling * (b.float() @ a.float())
    assert weights == {}
    return numbers(model)


def as_peft_reads(folder: Path) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return numbers(PeftModel.from_pretrained(llama(), folder))


def as_the_engine_reads(folder: Path, engine) -> torch.Tensor:
    adapter = adapter_reader(engine).read("a", folder)
    cache = KVCache(engine.architecture, 20, Dtype.FLOAT32)
    sequence = Sequence(1, list(PROMPT), SamplingParams(max_tokens=1), adapter)
    assert cache.allocate(sequence, len(PROMPT))
    found = Runner(engine, cache, 1).step([Row(sequence, len(PROMPT), len(PROMPT))]).values
    return torch.from_numpy(found).log_softmax(-1)


def check(folder: Path, expected: torch.Tensor, engine) -> None:
    assert not torch.allclose(expected, numbers(llama()), atol=1e-3)
    for found in (as_vllm_reads(folder), as_peft_reads(folder), as_the_engine_reads(folder, engine)):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", SETTINGS)
def test_trained_kinds(kind, base, engine, tmp_path):
    model = peft_model(**SETTINGS[kind])
    remarks = settled(save(model, tmp_path / "a"), base)
    check(tmp_path / "a", numbers(model), engine)
    assert REMARKED.get(kind, "") in "; ".join(remarks)
    assert bool(remarks) == (kind in REMARKED)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scalings_of_their_own_go_into_b_without_rounding_it(dtype, base, engine, tmp_path):
    model = peft_model(alpha_pattern={"v_proj": 3})
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(weight.to(dtype))
    save(model, tmp_path / "a")
    file = tmp_path / "a" / "adapter_model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in load_file(file).items()}, file)
    settled(tmp_path / "a", base)
    check(tmp_path / "a", numbers(model), engine)


def renamed(folder: Path, change) -> None:
    file = folder / "adapter_model.safetensors"
    save_file({change(name): tensor for name, tensor in load_file(file).items()}, file)


def layer_of(name: str) -> int:
    return int(name.partition("layers.")[2].partition(".")[0])


PREFIXES = {
    "compiled after PEFT": (lambda n: f"_orig_mod.{n}", "_orig_mod"),
    "compiled before PEFT": (lambda n: n.replace("base_model.model.", "base_model.model._orig_mod."), "_orig_mod"),
    "compiled layer by layer": (lambda n: n.replace(".self_attn", "._orig_mod.self_attn"), "_orig_mod"),
    "PEFT's model compiled": (lambda n: n.replace("base_model.", "base_model._orig_mod."), "_orig_mod"),
    "some of it compiled": (lambda n: f"_orig_mod.{n}" if layer_of(n) % 2 else n, "_orig_mod"),
    "FSDP": (lambda n: n.replace(".self_attn", "._fsdp_wrapped_module.self_attn"), "FSDP"),
    "without the model": (lambda n: n.replace("model.model.model.", "model.model.", 1), "'base_model.model.'"),
    "a language model inside": (lambda n: n.replace(".layers", ".language_model.layers"), "language_model"),
    "without PEFT's prefix": (lambda n: n.removeprefix("base_model.model."), "'model.'"),
    "half without PEFT's prefix": (lambda n: n.removeprefix("base_model.model.") if layer_of(n) % 2 else n, "'model.'"),
    "with the adapter's name": (lambda n: n.replace(".weight", ".policy.weight"), ""),
}


@pytest.mark.parametrize("kind", PREFIXES)
def test_names_under_another_prefix(kind, base, engine, tmp_path):
    change, remark = PREFIXES[kind]
    model = peft_model()
    renamed(save(model, tmp_path / "a"), change)
    remarks = "; ".join(settled(tmp_path / "a", base))
    assert remark in remarks
    check(tmp_path / "a", numbers(model), engine)


def test_torch_compile_before_peft(base, engine, tmp_path):
    config = LoraConfig(r=4, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(torch.compile(llama(), backend="eager"), config)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(1))
    expected = numbers(model.base_model.model._orig_mod)  # the same layers, without waiting for a compiler
    assert "_orig_mod" in "; ".join(settled(save(model, tmp_path / "a"), base))
    check(tmp_path / "a", expected, engine)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda n: n.replace("model.model.", "model.vision_tower.") if layer_of(n) else n, "another part of the model"),
        (
            lambda n: n.replace("base_model.model.", "a.").replace("rs.1", "rs.0") if layer_of(n) == 1 else n,
            "wrong prefix: 'a.model.' and 'base_model.model.model.' before .* more than one way",
        ),
        (lambda n: n.replace("layers", "h"), "LoRA is served on q_proj"),
        (lambda n: n.replace(".weight", ".one.weight" if layer_of(n) else ".two.weight"), "several adapters, one, two"),
    ],
    ids=["vision", "two prefixes", "other names", "two adapters"],
)
def test_names_with_no_single_reading(change, said, base, tmp_path):
    renamed(save(peft_model(), tmp_path / "a"), change)
    with pytest.raises(AdapterRefused, match=said):
        inspect_adapter(tmp_path / "a", read_architecture(base))


def test_a_prefix_under_which_the_adapter_does_not_fit_is_named(tmp_path):
    renamed(save(peft_model(), tmp_path / "a"), lambda n: n.replace("base_model.model.", "wrong."))
    wider = read_architecture(save_base(tmp_path / "wider", hidden_size=64))
    with pytest.raises(
        AdapterRefused, match=r"another base.*begin with 'wrong\.model\.', where 'base_model\.model\.mod"
    ):
        inspect_adapter(tmp_path / "a", wider)


@pytest.mark.parametrize(
    "change",
    [
        lambda n: n.replace("model.model.model.", "model.model.", 1),
        lambda n: n.replace("base_model.model.", "base_model.model._orig_mod."),
    ],
    ids=["lost", "compiled"],
)
def test_patterns_that_mean_something_else_under_the_prefix_are_not_guessed(change, base, tmp_path):
    folder = save(peft_model(alpha_pattern={"^model.layers.0.self_attn.q_proj": 64}), tmp_path / "a")
    renamed(folder, change)
    with pytest.raises(AdapterRefused, match="another alpha by its name in the file"):
        inspect_adapter(folder, read_architecture(base))


@pytest.mark.parametrize("change", [lambda n: n, lambda n: n.replace(".self_attn", "._fsdp_wrapped_module.self_attn")])
def test_modules_by_their_whole_names_are_theirs_under_a_wrapper_too(change, base, engine, tmp_path):
    names = ["model.layers.0.self_attn.q_proj", "model.layers.2.self_attn.v_proj"]
    model = peft_model(target_modules=names, rank_pattern={f"^{names[0]}": 7}, alpha_pattern={f"^{names[0]}": 14})
    folder = save(model, tmp_path / "a")
    renamed(folder, change)
    settled(folder, base)
    check(folder, numbers(model), engine)


@pytest.mark.parametrize("more", [0, 8])
@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16])
def test_embeddings_that_nobody_trained(more, dtype, base, engine, tmp_path):
    model = peft_model()
    if more:
        model.get_base_model().resize_token_embeddings(64 + more)
    folder = save(model, tmp_path / "a", save_embedding_layers=True)
    file = folder / "adapter_model.safetensors"
    weights = load_file(file)
    tables = [name for name in weights if "lora_" not in name]
    assert len(tables) == 2
    save_file({n: t.to(dtype) if dtype and n in tables else t for n, t in weights.items()}, file)
    remarks = "; ".join(settled(folder, base))
    assert all(f"{name} is the base model's own table" in remarks for name in tables)
    assert ("8 rows more" in remarks) == bool(more)
    check(folder, numbers(model)[:, :64].log_softmax(-1), engine)


def test_embeddings_that_were_changed(base, tmp_path):
    model = peft_model()
    model.get_input_embeddings().weight.data[3:5] += 0.01
    folder = save(model, tmp_path / "a", save_embedding_layers=True)
    with pytest.raises(AdapterRefused, match=r"of which 2 rows differ.*save_embedding_layers=False.*merge it"):
        settled(folder, base)
    narrower = save_base(tmp_path / "narrow", hidden_size=16)
    with pytest.raises(AdapterRefused, match="belongs to another base"):
        settled(folder, narrower)


def converted(config, folder: Path, rank) -> torch.nn.Module:
    model = get_peft_model(llama(), config)
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_as_lora(folder, model, rank=rank)
    return model


@pytest.mark.parametrize("rank", [32, 0.9999999])
def test_what_peft_makes_a_lora_of(rank, base, engine, tmp_path):
    config = LoHaConfig(r=4, target_modules=["q_proj", "o_proj"], exclude_modules=["model.layers.1.self_attn.o_proj"])
    model = converted(config, tmp_path / "a", rank)
    remarks = "; ".join(settled(tmp_path / "a", base))
    assert "model.layers.1.self_attn.o_proj is not adapted (1 of 6 missing)" in remarks
    assert "save_as_lora" in remarks
    expected = numbers(model)
    for found in (as_vllm_reads(tmp_path / "a"), as_the_engine_reads(tmp_path / "a", engine)):
        torch.testing.assert_close(found, expected, atol=2e-3 if rank != 32 else 1e-4, rtol=0)


@pytest.mark.parametrize("config", [LoHaConfig, LoKrConfig, VeraConfig])
def test_other_methods_are_told_how_to_become_lora(config, tmp_path):
    model = get_peft_model(llama(), config(target_modules=["q_proj"]))
    kind = model.peft_config["default"].peft_type.value
    assert kind in CONVERTIBLE
    with pytest.raises(AdapterRefused, match=rf"{kind} is not served as it is.*peft\.save_as_lora"):
        inspect_adapter(save(model, tmp_path / "a"), None)


def test_the_last_layers_alone(engine, base, tmp_path):
    model = peft_model(layers_to_transform=[2])
    folder = save(model, tmp_path / "a")
    change(folder, layers_to_transform=None)
    assert "only the layers 2 to 2 are adapted" in "; ".join(settled(folder, base))
    check(folder, numbers(model), engine)


def change(folder: Path, **changed) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))


def test_a_layer_that_peft_lost_to_anothers_name(base, tmp_path):
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(llama(), config, adapter_name="0")
    model.add_adapter("1", config)
    save(model, tmp_path)
    for name, lost in (("0", 1), ("1", 0)):
        said = rf"layers\.{lost}\.\S+, but .* no tensors for it \(1 of 3 missing\).*layer's number.*rename"
        with pytest.raises(AdapterRefused, match=said):
            inspect_adapter(tmp_path / name, read_architecture(base))


def test_lost_order_and_keys_without_a_match_are_remarked_on(base, tmp_path):
    def remarks(**settings):
        folder = save(peft_model(), tmp_path / str(len(list(tmp_path.iterdir()))))
        change(folder, **settings)
        return "; ".join(inspect_adapter(folder, read_architecture(base)).remarks)

    none = remarks(alpha_pattern={"^q_proj": 100, "model.layers.0": 100})
    assert "alpha_pattern: ^q_proj, model.layers.0 match no module" in none
    assert "PEFT sorts" in remarks(alpha_pattern={"q_proj": 4, "self_attn.q_proj": 64})
    assert remarks(alpha_pattern={"self_attn.q_proj": 64, "q_proj": 4}) == ""  # PEFT would have sorted these
    assert "changes nothing" in remarks(lora_alpha=0)


def test_an_eva_config_is_plain_lora(base, tmp_path):
    folder = save(peft_model(), tmp_path / "a")
    change(folder, init_lora_weights="eva", eva_config={"rho": 2.0}, corda_config={"x": 1}, lora_ga_config={"y": 1})
    assert settled(folder, base) == []


@pytest.mark.parametrize("field", sorted({*LoraConfig.__dataclass_fields__} - {"peft_type", "task_type"}))
def test_no_field_of_this_peft_is_unknown(field, tmp_path):
    folder = save(peft_model(), tmp_path / "a")
    change(folder, **{field: {"on": 1}})
    try:
        said = "; ".join(inspect_adapter(folder, None).remarks)
    except AdapterRefused as refused:
        said = refused.message
    assert "not known here" not in said


@pytest.mark.parametrize("field", ["use_new_thing", "new_thing_config"])
def test_an_unknown_variant_is_not_taken_for_plain_lora(field, tmp_path):
    folder = save(peft_model(), tmp_path / "a")
    change(folder, **{field: {"on": True} if field.endswith("config") else True})
    with pytest.raises(AdapterRefused, match=rf"{field}=.* is not known here"):
        inspect_adapter(folder, None)
    change(folder, **{field: None if field.endswith("config") else False}, something=3)
    assert "something='3' is not known here" in inspect_adapter(folder, None).remarks[0]


def test_an_mlx_config_is_never_read_as_peft(tmp_path):
    folder = save(peft_model(), tmp_path / "a")
    mlx = {"fine_tune_type": "lora", "num_layers": 16, "lora_parameters": {"rank": 8, "scale": 20.0}}
    (folder / "adapter_config.json").write_text(json.dumps(mlx))
    with pytest.raises(AdapterRefused, match=r"MLX-LM.*no peft_type.*rank \* scale"):
        inspect_adapter(folder, None)
    (folder / "adapter_model.safetensors").rename(folder / "adapters.safetensors")
    with pytest.raises(AdapterRefused, match=r"MLX-LM's own format.*transposed.*mlx_lm\.fuse"):
        inspect_adapter(folder, None)
    (folder / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 8}))
    shutil.move(folder / "adapters.safetensors", folder / "adapter_model.safetensors")
    with pytest.raises(AdapterRefused, match=r"no peft_type.*not guessed"):
        inspect_adapter(folder, None)


def test_defaults_are_peft_s_where_the_file_is_peft_s(base, engine, tmp_path):
    model = peft_model(r=8, lora_alpha=8)
    folder = save(model, tmp_path / "a")
    config = json.loads((folder / "adapter_config.json").read_text())
    kept = {key: value for key, value in config.items() if key not in ("r", "lora_alpha")}
    (folder / "adapter_config.json").write_text(json.dumps(kept))
    assert "no lora_alpha: PEFT's default 8 counts" in "; ".join(settled(folder, base))
    check(folder, numbers(model), engine)


EXPRESSIONS = {f"x{n}.*": 4 for n in range(101)}
NAMES = {f"name_{n}": 4 for n in range(9000)}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"task_type": "SEQ_CLS", "modules_to_save": ["score"]}, "task_type SEQ_CLS: this adapter is a classifier"),
        ({"task_type": "FEATURE_EXTRACTION"}, "for embeddings"),
        ({"rank_pattern": EXPRESSIONS}, "more than 100 expressions"),
        ({"rank_pattern": NAMES}, "8192 names"),
    ],
    ids=["classifier", "embeddings", "expressions", "names"],
)
def test_the_true_reason_comes_first(changed, said, tmp_path):
    folder = save(peft_model(), tmp_path / "a")
    change(folder, **changed)
    with pytest.raises(AdapterRefused, match=said):
        inspect_adapter(folder, None)


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        ("base_model.model.unembed_tokens.lora_A.weight", "output head .*train_unembed=False"),
        ("base_model.model.lm_head.lora_A.weight", "LoRA on the output head"),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias", "lora_bias"),
        ("base_model.model.model.layers.0.input_layernorm.weight", "a whole trained norm"),
        ("base_model.model.score.weight", "classifier"),
        ("model.layers.0.self_attn.q_proj.lora_a", "MLX-LM"),
    ],
)
def test_tensors_are_refused_for_what_they_are(tensor, said, tmp_path):
    folder = save(peft_model(), tmp_path / "a")
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({**weights, tensor: torch.zeros(4, 32)}, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterRefused, match=said):
        inspect_adapter(folder, None)


def test_shards_and_pickles_come_with_the_command_that_mends_them(tmp_path):
    folder = save(peft_model(), tmp_path / "a")
    weights = load_file(folder / "adapter_model.safetensors")
    (folder / "adapter_model.safetensors").unlink()
    names = sorted(weights)
    save_file({n: weights[n] for n in names[:6]}, folder / "adapter_model-00001-of-00002.safetensors")
    save_file({n: weights[n] for n in names[6:]}, folder / "adapter_model-00002-of-00002.safetensors")
    with pytest.raises(AdapterRefused) as refused:
        inspect_adapter(folder, None)
    run(str(refused.value).partition("with Python: ")[2], folder)
    assert inspect_adapter(folder, None).max_rank == 4
    (folder / "adapter_model.safetensors").unlink()
    for file in folder.glob("adapter_model-*"):
        file.unlink()
    torch.save(weights, folder / "adapter_model.bin")
    with pytest.raises(AdapterRefused) as refused:
        inspect_adapter(folder, None)
    run(str(refused.value).partition("you trust: ")[2], folder)
    assert inspect_adapter(folder, None).max_rank == 4


def run(code: str, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(code, {})
