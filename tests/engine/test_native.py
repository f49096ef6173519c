"""The native decoder: its logits against those of PyTorch in float32, and rows to the last bit against themselves."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

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
from loradock.engine.kernels.constants import BLOCK_SIZE
from loradock.engine.kernels.structures import Format
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.models.loading import adapter_reader, load_model
from loradock.engine.models.native_decoder import NativeDecoder
from loradock.engine.models.native_lanes import NativeLanes
from loradock.engine.models.packed_layout import fits
from loradock.engine.models.runner import Runner
from loradock.engine.runtime.threads import processors
from loradock.types.errors import BadRequest
from tests.engine.tiny import save_adapter
from tests.native import numbers as plain_numbers

SIZES = {
    "vocab_size": 112,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
FAMILIES = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SIZES, tie_word_embeddings=False)),
    "smollm": (LlamaForCausalLM, LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "mistral window": (MistralForCausalLM, MistralConfig(**SIZES, sliding_window=24)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**SIZES, tie_word_embeddings=True)),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**SIZES, head_dim=32)),
}
FAR = {None: 0.03, 8: 0.07, 4: 0.6}
"""How far logits may be from float32, of their spread: bfloat16 has 8 bits, and random weights suit 4 bits badly."""


@pytest.fixture(scope="module", params=FAMILIES)
def base(request, tmp_path_factory):
    torch.manual_seed(0)
    kind, config = FAMILIES[request.param]
    model = kind(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.2)
    folder = tmp_path_factory.mktemp("base")
    model.save_pretrained(folder / "base")
    return folder


@pytest.fixture(scope="module")
def reference(base):
    return load_model(base / "base", Dtype.FLOAT32, kernels=False)


def adapters_for(folder, model):
    """None (the base model) and adapters of ranks that are no multiple of four among others."""
    found = [None]
    reader = adapter_reader(model)
    for seed, rank in enumerate((8, 3, 16, 1)):
        path = folder / f"adapter-{rank}"
        if not path.exists():
            targets = tuple(model.architecture.linears())
            save_adapter(path, folder / "base", seed, rank, targets=targets, scale=0.5 / rank)
        found.append(reader.read(str(rank), path))
    return found


def mixed_logits(model, folder, threads, chunk, length=90, decoded=3, words=112):
    """Of sequences of the base model and of every adapter, prefilled in chunks and then decoded together."""
    cache = KVCache(model.architecture, 100, model.dtype)
    runner = Runner(model, cache, threads)
    generator = torch.Generator().manual_seed(1)
    sequences = []
    for number, adapter in enumerate([*adapters_for(folder, model)] * 2):
        size = length - 11 * number
        tokens = torch.randint(0, words, (max(3, size) + decoded,), generator=generator).tolist()
        sequences.append((Sequence(number, tokens[:-decoded], SamplingParams(), adapter), tokens[-decoded:]))
        assert cache.allocate(sequences[-1][0], len(tokens))
    found = []
    for sequence, _ in sequences:
        while sequence.computed < len(sequence):
            count = min(chunk, len(sequence) - sequence.computed)
            found.append(torch.from_numpy(runner.step([Row(sequence, count, count)]).values))
    for turn in range(decoded):
        for sequence, rest in sequences:
            sequence.output.append(rest[turn])
        rows = sorted((Row(s, 1, 1) for s, _ in sequences), key=lambda row: row.sequence.adapter is None)
        found.append(torch.from_numpy(runner.step(rows).values))
    return torch.cat(found)


@pytest.mark.parametrize("bits", [None, 8, 4])
def test_logits_of_mixed_adapters_are_near_those_in_float32(base, reference, bits):
    model = load_model(base / "base", Dtype.BFLOAT16, bits=bits)
    assert isinstance(model, NativeDecoder)
    wanted = mixed_logits(reference, base, 1, chunk=1000)
    for threads, chunk in ((1, 1000), (3, 1000), (2, 17)):
        found = mixed_logits(model, base, threads, chunk)
        assert ((found - wanted).std(dim=1) < FAR[bits] * wanted.std()).all()


def test_adapters_change_much_more_than_rounding(base, reference):
    cache = KVCache(reference.architecture, 10, Dtype.FLOAT32)
    runner = Runner(reference, cache, 1)
    seen = []
    for adapter in adapters_for(base, reference):
        sequence = Sequence(1, [5, 6, 7], SamplingParams(), adapter)
        assert cache.allocate(sequence, 3)
        seen.append(torch.from_numpy(runner.step([Row(sequence, 3, 1)]).values))
        cache.free(sequence)
    assert all((other - seen[0]).std() > 0.3 * seen[0].std() for other in seen[1:])


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("bits", [None, 8, 4])
def test_a_row_is_computed_alike_whoever_shares_its_step(base, bits, threads):
    """To the last bit: a decoding row, and one of a chunk that is not too long, depends neither on what else is asked
    nor on what is drafted."""
    model = load_model(base / "base", Dtype.BFLOAT16, bits=bits)
    cache, adapters = KVCache(model.architecture, 300, model.dtype), adapters_for(base, model)
    runner, generator, sequences = Runner(model, cache, threads), torch.Generator().manual_seed(3), []
    for number in range(40):
        tokens = torch.randint(0, 112, (5 + 3 * number,), generator=generator).tolist()
        sequence = Sequence(number, tokens, SamplingParams(), adapters[number * len(adapters) // 40])
        assert cache.allocate(sequence, len(tokens))
        runner.step([Row(sequence, len(tokens) - 1, 0)])
        sequences.append(sequence)

    def logits(some, count):
        found = torch.from_numpy(runner.step([Row(sequence, count, count) for sequence in some]).values)
        for sequence in some:
            sequence.computed -= count
        return found

    alone = torch.cat([logits([sequence], 1) for sequence in sequences])
    for size in (2, 3, 4, 5, 7, 8, 9, 13, 40):
        together = torch.cat([logits(sequences[n : n + size], 1) for n in range(0, 40, size)])
        assert torch.equal(together, alone), size
    for count in (2, 3, 4, 5):  # as the last of a chunk
        for number in (2, 19, 39):
            sequences[number].computed -= count - 1
            assert torch.equal(logits([sequences[number]], count)[-1], alone[number]), count
            sequences[number].computed += count - 1


def test_what_does_not_fit_the_tiles_is_served_otherwise_and_not_in_few_bits(tmp_path):
    LlamaForCausalLM(LlamaConfig(**SIZES | {"head_dim": 24})).save_pretrained(tmp_path / "heads")
    model = load_model(tmp_path / "heads", Dtype.BFLOAT16)
    assert not fits(model.architecture, Format.CODED) and not isinstance(model, NativeDecoder)
    LlamaForCausalLM(LlamaConfig(**SIZES | {"intermediate_size": 112})).save_pretrained(tmp_path / "groups")
    assert isinstance(load_model(tmp_path / "groups", Dtype.BFLOAT16), NativeDecoder)
    with pytest.raises(BadRequest, match="multiples of 32"):
        load_model(tmp_path / "groups", Dtype.BFLOAT16, bits=8)


@pytest.mark.parametrize("dtype", list(Dtype))
def test_widths_that_leave_panels_and_groups_part_empty(tmp_path, dtype):
    torch.manual_seed(0)
    odd = SIZES | {"vocab_size": 97, "hidden_size": 48, "intermediate_size": 112, "head_dim": 16}
    for tied in (False, True):
        folder = tmp_path / f"tied-{tied}"
        LlamaForCausalLM(LlamaConfig(**odd, tie_word_embeddings=tied)).save_pretrained(folder / "base")
        wanted = mixed_logits(
            load_model(folder / "base", Dtype.FLOAT32, kernels=False), folder, 1, chunk=1000, words=97
        )
        found = mixed_logits(load_model(folder / "base", dtype), folder, 2, chunk=17, words=97)
        far = FAR[None] if dtype is Dtype.BFLOAT16 else 1e-4
        assert ((found - wanted).std(dim=1) < far * wanted.std()).all()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("decoding", range(28, 36))
def test_a_chunk_of_which_a_lane_gets_just_one_row_is_waited_for(base, decoding):
    """Rows that decode see nothing of each other; the first of a chunk looks like one."""
    model = load_model(base / "base", Dtype.BFLOAT16)
    cache = KVCache(model.architecture, 100, model.dtype)
    rows = []
    for number in range(decoding):
        sequence = Sequence(number, [number, 1], SamplingParams(prompt_logprobs=0))
        assert cache.allocate(sequence, 2)
        Runner(model, cache, 1).step([Row(sequence, 1, 1)])
        rows.append(Row(sequence, 1, 1))
    chunk = Sequence(99, [5] * 33, SamplingParams(prompt_logprobs=0))
    assert cache.allocate(chunk, 33)
    rows.append(Row(chunk, 33, 33))
    found = []
    for threads in (1, 2, 3):
        found.append(Runner(model, cache, threads).step(rows).values)
        for row in rows:
            row.sequence.computed -= row.count
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("lengths", [(100, 101), (100, 102), (33, 34, 35), (70, 3, 70)])
def test_prompts_in_one_step_meet_in_a_lane_wherever_it_ends(base, reference, threads, lengths):
    def logits(model):
        cache = KVCache(model.architecture, 40, model.dtype)
        generator = torch.Generator().manual_seed(2)
        rows = []
        for number, length in enumerate((5, *lengths)):
            tokens = torch.randint(0, 112, (length,), generator=generator).tolist()
            sequence = Sequence(number, tokens, SamplingParams())
            assert cache.allocate(sequence, length)
            rows.append(Row(sequence, length, length))
        decoding = rows.pop(0)
        runner = Runner(model, cache, threads)
        runner.step([Row(decoding.sequence, 4, 0)])
        return torch.from_numpy(runner.step([Row(decoding.sequence, 1, 1), *rows]).values)

    wanted, found = logits(reference), logits(load_model(base / "base", Dtype.BFLOAT16))
    assert ((found - wanted).std(dim=1) < FAR[None] * wanted.std()).all()


@pytest.mark.parametrize("bits", [None, 8, 4])
@pytest.mark.parametrize("target", ["down_proj", "o_proj", "q_proj"])
def test_numbers_that_are_not_finite_make_their_row_unusable_and_no_other(base, bits, target):
    path = base / f"overflows-{target}"
    if not path.exists():
        save_adapter(path, base / "base", 0, 2, bad=3e38, targets=(target,), scale=1e6)
    model = load_model(base / "base", Dtype.BFLOAT16, bits=bits)
    adapter = adapter_reader(model).read("a", path)
    cache = KVCache(model.architecture, 10, model.dtype)
    rows = []
    for number, owner in enumerate((None, adapter, None)):
        sequence = Sequence(number, [5, 6, 7], SamplingParams(), owner)
        assert cache.allocate(sequence, 3)
        rows.append(Row(sequence, 3, 1))
    assert Runner(model, cache, 1).step(rows).finite == [True, False, True]


def test_tensors_of_other_shapes_than_the_configuration_says_are_refused(tmp_path):
    LlamaForCausalLM(LlamaConfig(**SIZES)).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change in ({"intermediate_size": 192}, {"vocab_size": 96}, {"num_key_value_heads": 4}):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(BadRequest, match="has shape"):
            load_model(tmp_path, Dtype.BFLOAT16)


def test_weights_that_do_not_fit_twelve_bits_are_kept_in_sixteen(tmp_path):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(torch.exp2(torch.randint(-60, 1, parameter.shape).float()))
    model.save_pretrained(tmp_path)
    served = load_model(tmp_path, Dtype.BFLOAT16)
    assert served.format is Format.BFLOAT16
    cache = KVCache(served.architecture, 4, served.dtype)
    sequence = Sequence(1, [5, 6, 7], SamplingParams())
    assert cache.allocate(sequence, 3)
    assert Runner(served, cache, 1).step([Row(sequence, 3, 1)]).finite == [True]


def test_logits_are_kept_only_where_somebody_reads_them(base):
    model = load_model(base / "base", Dtype.BFLOAT16)
    cache = KVCache(model.architecture, 20, model.dtype)
    runner, found = Runner(model, cache, 2), {}
    for name, params in (("plain", SamplingParams(temperature=0)), ("read", SamplingParams(temperature=0, logprobs=1))):
        rows = []
        for number, length in enumerate((5, 40)):
            sequence = Sequence(number, list(range(length)), params)
            assert cache.allocate(sequence, length)
            rows.append(Row(sequence, length, 1))
        found[name] = runner.step(rows)
        for row in rows:
            cache.free(row.sequence)
    assert (len(found["plain"].parts), found["read"].values.shape) == (0, (2, 112))
    assert found["plain"].best == found["read"].best == found["read"].values.argmax(axis=1).tolist()


@pytest.fixture
def threads_of_steps(base, monkeypatch):
    """A runner on two threads, and on how many each of its steps was."""
    model = load_model(base / "base", Dtype.BFLOAT16)
    cache, used = KVCache(model.architecture, 10, Dtype.BFLOAT16), []
    runner = Runner(model, cache, 2)
    split = runner._lanes.split
    monkeypatch.setattr(runner._lanes, "split", lambda rows, threads: used.append(threads) or split(rows, threads))
    sequence = Sequence(1, list(range(60)), SamplingParams())
    assert cache.allocate(sequence, 60)
    return runner, sequence, used


@pytest.mark.skipif(len(processors()) < 2, reason="there is only one processor")
@pytest.mark.parametrize("count", [1, 40])
def test_lanes_keep_off_the_processor_of_the_compute_thread(threads_of_steps, count):
    runner, sequence, _ = threads_of_steps
    runner.step([Row(sequence, 1, 0)])  # the pool starts its thread
    runner.step([Row(sequence, count, 0)])
    assert len(runner._pool.submit(os.sched_getaffinity, 0).result()) == len(processors()) - 1


def test_any_number_of_a_rooms_threads_may_take_a_step(base):
    """What the others left of the step before must not count."""
    model = load_model(base / "base", Dtype.BFLOAT16)
    cache = KVCache(model.architecture, 20, model.dtype)
    split = NativeLanes(model, cache, 3).split
    generator = torch.Generator().manual_seed(0)
    for threads in (3, 1, 2, 1, 3, 1, 2):
        rows = []
        for number, prompt in enumerate(torch.randint(0, 112, (4, 7), generator=generator).tolist()):
            sequence = Sequence(number, prompt, SamplingParams(temperature=0))
            assert cache.allocate(sequence, 7)
            rows.append(Row(sequence, 7, 1))
        with ThreadPoolExecutor(3) as pool:
            best = [logits.best for logits in pool.map(lambda member: member.run(), split(rows, threads))]
        alone = NativeLanes(model, cache, 1).split(rows, 1)[0].run()
        assert best == [alone.best, *[[]] * (threads - 1)]
        for row in rows:
            cache.free(row.sequence)


@pytest.mark.parametrize("window", [None, 24, 200])
@pytest.mark.parametrize("dtype", list(Dtype))
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(1, 1, 16), (4, 2, 48), (6, 2, 64), (4, 1, 128), (7, 1, 32)])
def test_a_row_attends_alike_wherever_its_chunk_begins(tmp_path, heads, kv_heads, dim, dtype, window):
    """To the last bit: read as the cache lies, or with the keys and values of a chunk laid out once for many rows."""
    torch.manual_seed(0)
    sizes = SIZES | {
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": dim,
        "hidden_size": 32 * heads,
    }
    kind, config = (MistralForCausalLM, MistralConfig) if window else (LlamaForCausalLM, LlamaConfig)
    more = {"sliding_window": window} if window else {}
    kind(config(**sizes | more, initializer_range=0.2)).save_pretrained(tmp_path)
    model = load_model(tmp_path, dtype)
    cache, runner = KVCache(model.architecture, 60, dtype), None
    tokens = np.random.default_rng(0).integers(0, 112, 300).tolist()
    found = []
    for threads, chunks in ((1, [1]), (1, [300]), (2, [300]), (1, [3, 40, 1, 130]), (2, [64, 7]), (3, [20])):
        runner = Runner(model, cache, threads)
        sequence = Sequence(1, tokens, SamplingParams(prompt_logprobs=0))
        assert cache.allocate(sequence, 300)
        parts = []
        while sequence.computed < 300:
            count = min(chunks[len(parts) % len(chunks)], 300 - sequence.computed)
            parts.append(runner.step([Row(sequence, count, count)]).values)
        found.append(np.concatenate(parts))
        sequence.output, sequence.computed = [], 0
        cache.free(sequence)
        cache.forget_adapter(0)
    for other in found[1:]:
        assert np.array_equal(other, found[0])


@pytest.mark.parametrize("int8", [False, True])
def test_what_lies_behind_a_rows_last_key_may_be_anything(base, int8):
    """It is another's."""
    model = load_model(base / "base", Dtype.BFLOAT16)
    seen = []
    for filled in (False, True):
        cache = KVCache(model.architecture, 10, model.dtype, int8=int8)
        if filled:
            cache.memory.view(np.uint16)[:] = 0x7FC0  # not a number, and bytes of any kind
        sequence = Sequence(1, list(range(60)), SamplingParams(prompt_logprobs=0))
        assert cache.allocate(sequence, 60)
        runner = Runner(model, cache, 1)
        seen.append(np.concatenate([runner.step([Row(sequence, n, n)]).values for n in (37, 1, 1, 21)]))
    assert np.isfinite(seen[1]).all() and np.array_equal(*seen)


@pytest.mark.parametrize("dtype", list(Dtype))
def test_keys_and_values_in_eight_bits(base, dtype):
    """Of the first layer, whose inputs do not depend on the cache: each is the nearest of 255 steps."""
    model, kept, logits = load_model(base / "base", dtype), [], []
    for int8 in (False, True):
        cache = KVCache(model.architecture, 10, dtype, int8=int8)
        sequence = Sequence(1, list(range(60)), SamplingParams(prompt_logprobs=0))
        assert cache.allocate(sequence, 60)
        runner = Runner(model, cache, 2)
        logits.append(np.concatenate([runner.step([Row(sequence, n, n)]).values for n in (37, 1, 1, 21)]))
        blocks = cache.memory[sequence.blocks[:3], 0]
        kept.append((cache.layout.keys(blocks).swapaxes(-1, -2), cache.layout.values(blocks), blocks))
    for side in (0, 1):
        plain = kept[0][side] if dtype is Dtype.FLOAT32 else plain_numbers.floats_of(kept[0][side])
        scales = (
            np.ascontiguousarray(kept[1][2][..., -4 * BLOCK_SIZE :]).view(np.uint16).reshape(*plain.shape[:2], 2, -1)
        )
        scale = plain_numbers.floats_of(scales[:, :, side])[..., None]
        off = np.abs(kept[1][side] * scale - plain)
        assert (off <= 0.5001 * scale).all()
        assert (np.abs(plain).max(axis=-1, keepdims=True) > 126 * scale).all()
    assert np.sqrt(np.mean((logits[0] - logits[1]) ** 2)) < 0.03 * logits[0].std()


@pytest.mark.parametrize("dtype", list(Dtype))
def test_rows_are_alike_in_chunks_and_alone_with_a_cache_in_eight_bits(base, dtype):
    model, found = load_model(base / "base", dtype), []
    for steps in ((200,), (64, 64, 64, 8), (3, 1, 1, 190, 1, 4)):
        cache = KVCache(model.architecture, 20, dtype, int8=True)
        sequence = Sequence(1, [n % 112 for n in range(200)], SamplingParams(prompt_logprobs=0))
        assert cache.allocate(sequence, 200)
        runner = Runner(model, cache, 2)
        found.append(np.concatenate([runner.step([Row(sequence, n, n)]).values for n in steps]))
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_a_cache_of_another_kind_is_refused(base):
    model = load_model(base / "base", Dtype.BFLOAT16)
    with pytest.raises(ValueError, match="is not of the model's"):
        Runner(model, KVCache(model.architecture, 4, Dtype.FLOAT32), 1)
