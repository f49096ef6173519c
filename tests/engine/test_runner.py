"""Steps that mix adapters, chunks and cached prefixes against transformers + PEFT, one prompt at a time."""

import functools
import itertools
import time
import warnings

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from loradock.engine.core import Row, SamplingParams, Sequence
from loradock.engine.dtypes import Dtype
from loradock.engine.kernels.constants import BLOCK_SIZE
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.models.loading import adapter_reader, load_model
from loradock.engine.models.runner import Runner
from loradock.engine.torch_models.lora import StackedLora

VOCABULARY, TOKENS = 97, 12
SHAPE = {"hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 3, "num_attention_heads": 4}
ATTENTION, MLP = ["q_proj", "k_proj", "v_proj", "o_proj"], ["gate_proj", "up_proj", "down_proj"]
ADAPTERS = {
    "everything": LoraConfig(r=8, lora_alpha=16, target_modules=ATTENTION + MLP),
    "rslora": LoraConfig(r=4, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "down_proj"]),
    "patterns": LoraConfig(
        r=2,
        lora_alpha=4,
        target_modules=["v_proj", "up_proj", "k_proj"],
        rank_pattern={"v_proj": 6, "layers.1.self_attn.k_proj": 3},
        alpha_pattern={"up_proj": 1, "layers.2.self_attn.v_proj": 9},
    ),
    "one layer": LoraConfig(r=16, lora_alpha=8, target_modules=["o_proj"], layers_to_transform=[1]),
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The PEFT model with all adapters, and the folder that holds base and adapters."""
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(**SHAPE, num_key_value_heads=2, vocab_size=VOCABULARY)).eval()
    for parameter in base.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    folder = tmp_path_factory.mktemp("reference")
    base.save_pretrained(folder / "base")
    first, *others = ADAPTERS.items()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        model = get_peft_model(base, first[1], adapter_name=first[0]).eval()
    for name, config in others:
        model.add_adapter(name, config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder, save_embedding_layers=False)
    return model, folder


@pytest.fixture(scope="module")
def model(reference):
    return load_model(reference[1] / "base", Dtype.FLOAT32)


@pytest.fixture(scope="module")
def plain_model(reference):
    """As on a device without kernels."""
    return load_model(reference[1] / "base", Dtype.FLOAT32, kernels=False)


def load_all(folder, model):
    reader = adapter_reader(model)
    return {name: reader.read(name, folder / name) for name in ADAPTERS} | {"base": None}


@pytest.fixture(scope="module")
def adapters(reference, model):
    return load_all(reference[1], model)


@pytest.fixture(scope="module")
def plain_adapters(reference, plain_model):
    return load_all(reference[1], plain_model)


@pytest.fixture(scope="module")
def expected(reference):
    """Greedy tokens of (adapter, prompt), computed without cache or batch."""
    peft_model = reference[0]

    @functools.cache
    def greedy(name, prompt):
        if name == "base":
            with peft_model.disable_adapter():
                return extend(peft_model, prompt)
        peft_model.set_adapter(name)
        return extend(peft_model, prompt)

    return greedy


@torch.inference_mode()
def extend(model, prompt):
    tokens = list(prompt)
    for _ in range(TOKENS):
        tokens.append(int(model(torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
    return tokens[len(prompt) :]


def random_prompt(length, seed=0):
    return tuple(torch.randint(VOCABULARY, (length,), generator=torch.Generator().manual_seed(seed)).tolist())


def run(model, sequences, cache=None, chunk=1000, threads=1):
    """Greedy decoding of all sequences together; at most `chunk` prompt tokens of each in a step."""
    cache = cache or KVCache(model.architecture, 100, Dtype.FLOAT32)
    runner = Runner(model, cache, threads)
    for sequence in sequences:
        cache.match_prefix(sequence)
    while unfinished := [s for s in sequences if len(s.output) < TOKENS]:
        rows = []
        for sequence in unfinished:
            count = min(chunk, len(sequence) - sequence.computed)
            assert cache.allocate(sequence, sequence.computed + count)
            rows.append(Row(sequence, count, int(sequence.computed + count == len(sequence))))
        rows.sort(key=lambda row: row.count > 1)
        logits = iter(runner.step(rows).values)
        for row in rows:
            if row.logits:
                row.sequence.output.append(int(next(logits).argmax()))
    outputs = [list(s.output) for s in sequences]
    for sequence in sequences:
        cache.free(sequence)
    return outputs


def mixed_cases(adapters):
    cases = [(name, random_prompt(9 + 5 * i, i)) for i, name in enumerate([*adapters, *reversed(adapters)])]
    return cases, [Sequence(i, list(p), SamplingParams(), adapters[n]) for i, (n, p) in enumerate(cases)]


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("chunk", [1000, 7])
def test_mixed_adapters_equal_one_at_a_time(model, adapters, expected, chunk, threads):
    cases, sequences = mixed_cases(adapters)
    assert run(model, sequences, chunk=chunk, threads=threads) == [expected(name, prompt) for name, prompt in cases]


@pytest.mark.parametrize("dense", [1000, 0], ids=["dense", "grouped"])
@pytest.mark.parametrize("chunk", [1000, 7])
def test_mixed_adapters_equal_one_at_a_time_in_torch(plain_model, plain_adapters, expected, chunk, dense, monkeypatch):
    monkeypatch.setattr(StackedLora, "DENSE_TOKENS", dense)
    cases, sequences = mixed_cases(plain_adapters)
    assert run(plain_model, sequences, chunk=chunk) == [expected(name, prompt) for name, prompt in cases]


def test_adapters_answer_differently(expected, adapters):
    answers = [tuple(expected(name, random_prompt(20))) for name in adapters]
    assert len(set(answers)) == len(answers)


def test_cached_prefixes_change_no_token_and_cross_no_adapter(model, adapters, expected):
    cache, shared = KVCache(model.architecture, 100, Dtype.FLOAT32), random_prompt(3 * BLOCK_SIZE)
    for turn, name in itertools.product(range(2), adapters):
        prompt = shared + random_prompt(5, turn)
        sequence = Sequence(1, list(prompt), SamplingParams(), adapters[name])
        cache.match_prefix(sequence)
        assert sequence.computed == (3 * BLOCK_SIZE if turn else 0)
        cache.free(sequence)
        assert run(model, [sequence], cache) == [expected(name, prompt)]


def test_a_stack_outlives_no_adapter(plain_model, plain_adapters):
    stacks = StackedLora(plain_model.architecture.layers, torch.float32, plain_model.device)
    one, other = plain_adapters["everything"], plain_adapters["rslora"]
    assert stacks.batch([None, None]) is None
    stacks.batch([one, other])
    stacks.batch([other])
    stacks.forget(one.load_id)
    assert all(one.load_id not in key for key in stacks._stacks)


def test_logits_of_wanted_positions_only(model):
    cache = KVCache(model.architecture, 10, Dtype.FLOAT32)
    sequence = Sequence(1, list(random_prompt(10)), SamplingParams())
    assert cache.allocate(sequence, 10)
    runner = Runner(model, cache)
    assert runner.step([Row(sequence, 4, 0)]).values.shape == (0, VOCABULARY)
    assert runner.step([Row(sequence, 6, 3)]).values.shape == (3, VOCABULARY)
    assert sequence.computed == 10


class _Failing:
    def run(self, threads):
        raise RuntimeError("no such matrix")


class _Slow:
    finished = False

    def run(self, threads):
        time.sleep(0.2)
        self.finished = True


def test_a_step_has_not_failed_before_all_its_lanes_have_ended(model):
    runner, slow = Runner(model, KVCache(model.architecture, 10, Dtype.FLOAT32), 2), _Slow()
    runner._lanes.split = lambda rows, threads: [_Failing(), slow]
    with pytest.raises(RuntimeError, match="no such matrix"):
        runner.step([])
    assert slow.finished
