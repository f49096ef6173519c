"""The compiled decoder against PyTorch: its products number by number, its logits against the float32 decoder's."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numba import njit, types
from numba.extending import intrinsic
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

from loradock.engine.adapters.lora import AdapterReader
from loradock.engine.core import Row, SamplingParams, Sequence
from loradock.engine.kernels.compiled import attention, layers, packing, products
from loradock.engine.kernels.compiled import simd as machine
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.models import compiled_lanes as lanes
from loradock.engine.models.compiled_decoder import CompiledDecoder, runs_compiled
from loradock.engine.models.loading import load_model
from loradock.engine.models.runner import Runner
from loradock.engine.runtime.threads import processors
from loradock.types.errors import BadRequest
from tests.engine.tiny import save_adapter

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


def in_bytes(x):
    """Numbers and scales as the kernels should find them."""
    groups = x.view(len(x), -1, 32)
    largest = groups.abs().amax(dim=2, keepdim=True)
    return ((groups * (127 / largest)).round() * (largest / 127)).view(x.shape)


def given_back(weight, bits):
    """The weight that its packed form stands for."""
    groups = weight.view(len(weight), -1, 32)
    if bits == 16:
        return weight.bfloat16().float()
    if bits == 8:
        scales = (groups.abs().amax(dim=2, keepdim=True) / 127).half().float()
        return ((groups / scales).round() * scales).view(weight.shape)
    low = groups.amin(dim=2, keepdim=True)
    scales, low = ((groups.amax(dim=2, keepdim=True) - low) / 15).half().float(), low.half().float()
    return (((groups - low) / scales).round().clamp(0, 15) * scales + low).view(weight.shape)


@njit
def product(kind, line, row, x, inputs, out, add, split):
    for i in range(len(x)):
        row[:] = x[i]
        products.prepare(kind, row, inputs, i)
    panels = out.shape[1] // 16
    for first, end in ((0, split), (split, panels)):
        products.multiply(kind, line, inputs, len(x), out.ctypes.data, out.shape[1] * 4, add, first, end)


@pytest.mark.parametrize("bits", [16, 8, 4])
def test_products_of_any_number_of_rows_and_panels(bits):
    torch.manual_seed(0)
    deep, most = 96, 39
    rows, bytes_, factors = (np.zeros((most, n), np.uint8) for n in (2 * deep, 4 * deep, 2 * 4 * deep // 32))
    unpacked = np.zeros(2 * deep * 16 * 2, np.uint8)
    lines = [n for a in (rows, bytes_, factors) for n in (a.ctypes.data, a.strides[0])]
    inputs = np.array([*lines, unpacked.ctypes.data])
    for panels in (1, 2, 3, 7):
        weight, bias = torch.randn(16 * panels, deep), torch.randn(16 * panels)
        arena = packing.Arena(packing.packed_bytes(16 * panels, deep, bits) + 4096)
        line = np.array(packing.pack(arena, weight, bits, bias.data_ptr()))
        for count in (*range(1, 10), 21, most):
            x = torch.randn(count, deep)
            out = torch.randn(count, 16 * panels)
            seen = x.bfloat16().float() if bits == 16 else in_bytes(x)
            for add, before in ((0, 0), (1, out.clone())):
                target = out.clone()
                row = np.empty(deep, np.float32)
                split = count % (panels + 1)
                product(products.KINDS[bits], line, row, x.numpy(), inputs, target.numpy(), add, split)
                wanted = before + seen @ given_back(weight, bits).T + bias
                torch.testing.assert_close(target, wanted, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("native", [True, False], ids=["instruction", "spelled out"])
def test_dot_products_with_and_without_the_processors_instruction(native, monkeypatch):
    if native and not (machine.DOTS_BFLOAT16 and machine.DOTS_BYTES):
        pytest.skip("this processor has no such instruction")
    monkeypatch.setattr(machine, "DOTS_BFLOAT16", native)
    monkeypatch.setattr(machine, "DOTS_BYTES", native)
    random = np.random.default_rng(0)
    pairs = [torch.from_numpy(random.standard_normal((16, 2), np.float32)).bfloat16() for _ in range(2)]
    out = np.ones(16, np.float32)
    dot(machine.dot_bfloat16, machine.FLOATS)(out.ctypes.data, *(p.data_ptr() for p in pairs))
    np.testing.assert_allclose(out, 1 + (pairs[0].float() * pairs[1].float()).sum(1).numpy(), rtol=1e-5)
    weights, x = random.integers(0, 256, (16, 4), np.uint8), random.integers(-127, 128, (16, 4), np.int8)
    out = np.full(16, -5, np.int32)
    dot(machine.dot_bytes, machine.INTS)(out.ctypes.data, weights.ctypes.data, x.ctypes.data)
    assert out.tolist() == (-5 + (weights.astype(int) * x).sum(1)).tolist()


def dot(instruction, kind):
    @intrinsic
    def one(typingctx, out, left, right):
        def generate(context, builder, signature, arguments):
            out, left, right = arguments
            total = machine.load(builder, out, kind)
            vectors = [machine.load(builder, at, machine.INTS) for at in (left, right)]
            machine.store(builder, instruction(builder, total, *vectors), out)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 3), generate

    @njit
    def call(out, left, right):
        one(out, left, right)

    return call


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
    return load_model(base / "base", torch.float32, kernels=False)


def adapters_for(folder, model):
    """None (the base model) and adapters of ranks that are no multiple of four among others."""
    found = [None]
    reader = AdapterReader(model.architecture, model.dtype, kernels=model.kernels)
    for seed, rank in enumerate((8, 3, 16, 1)):
        path = folder / f"adapter-{rank}"
        if not path.exists():
            targets = tuple(model.architecture.linears())
            save_adapter(path, folder / "base", seed, rank, targets=targets, scale=0.5 / rank)
        found.append(reader.read(str(rank), path))
    return found


def mixed_logits(model, folder, threads, chunk, length=90, decoded=3):
    """Of sequences of the base model and of every adapter, prefilled in chunks and then decoded together."""
    cache = KVCache(model.architecture, 100, model.dtype)
    runner = Runner(model, cache, threads)
    generator = torch.Generator().manual_seed(1)
    sequences = []
    for number, adapter in enumerate([*adapters_for(folder, model)] * 2):
        size = length - 11 * number
        tokens = torch.randint(0, 112, (max(3, size) + decoded,), generator=generator).tolist()
        sequences.append((Sequence(number, tokens[:-decoded], SamplingParams(), adapter), tokens[-decoded:]))
        assert cache.allocate(sequences[-1][0], len(tokens))
    found = []
    for sequence, _ in sequences:
        while sequence.computed < len(sequence):
            count = min(chunk, len(sequence) - sequence.computed)
            found.append(runner.step([Row(sequence, count, count)]).values.float())
    for turn in range(decoded):
        for sequence, rest in sequences:
            sequence.output.append(rest[turn])
        rows = sorted((Row(s, 1, 1) for s, _ in sequences), key=lambda row: row.sequence.adapter is None)
        found.append(runner.step(rows).values.float())
    return torch.cat(found)


@pytest.mark.parametrize("bits", [None, 8, 4])
def test_logits_of_mixed_adapters_are_near_those_in_float32(base, reference, bits):
    model = load_model(base / "base", torch.bfloat16, bits=bits)
    assert isinstance(model, CompiledDecoder)
    wanted = mixed_logits(reference, base, 1, chunk=1000)
    for threads, chunk in ((1, 1000), (3, 1000), (2, 17)):
        found = mixed_logits(model, base, threads, chunk)
        assert ((found - wanted).std(dim=1) < FAR[bits] * wanted.std()).all()


def test_adapters_change_much_more_than_rounding(base, reference):
    cache = KVCache(reference.architecture, 10, torch.float32)
    runner = Runner(reference, cache, 1)
    seen = []
    for adapter in adapters_for(base, reference):
        sequence = Sequence(1, [5, 6, 7], SamplingParams(), adapter)
        assert cache.allocate(sequence, 3)
        seen.append(runner.step([Row(sequence, 3, 1)]).values)
        cache.free(sequence)
    assert all((other - seen[0]).std() > 0.3 * seen[0].std() for other in seen[1:])


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("bits", [None, 8, 4])
def test_a_row_is_computed_alike_whoever_shares_its_step(base, bits, threads):
    """To the last bit: a decoding row, and one of a chunk that is not too long, depends neither on what else is asked
    nor on what is drafted."""
    model = load_model(base / "base", torch.bfloat16, bits=bits)
    cache, adapters = KVCache(model.architecture, 300, model.dtype), adapters_for(base, model)
    runner, generator, sequences = Runner(model, cache, threads), torch.Generator().manual_seed(3), []
    for number in range(40):
        tokens = torch.randint(0, 112, (5 + 3 * number,), generator=generator).tolist()
        sequence = Sequence(number, tokens, SamplingParams(), adapters[number * len(adapters) // 40])
        assert cache.allocate(sequence, len(tokens))
        runner.step([Row(sequence, len(tokens) - 1, 0)])
        sequences.append(sequence)

    def logits(some, count):
        found = runner.step([Row(sequence, count, count) for sequence in some]).values.clone()
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


def test_no_two_compiled_functions_have_one_name():
    """By which kept machine code is known, whichever process made it."""
    found = {
        id(f): f for module in (attention, products, layers) for f in vars(module).values() if hasattr(f, "py_func")
    }
    names = [(f.py_func.__module__, f.py_func.__qualname__) for f in found.values()]
    assert len(names) > 20
    assert len(set(names)) == len(names)


def test_what_does_not_fit_the_tiles_is_served_otherwise_and_not_in_few_bits(tmp_path):
    LlamaForCausalLM(LlamaConfig(**SIZES | {"vocab_size": 97})).save_pretrained(tmp_path)
    model = load_model(tmp_path, torch.bfloat16)
    assert not runs_compiled(model.architecture, 8) and not isinstance(model, CompiledDecoder)
    with pytest.raises(BadRequest, match="multiples of 32"):
        load_model(tmp_path, torch.bfloat16, bits=8)


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
        return runner.step([Row(decoding.sequence, 1, 1), *rows]).values.float()

    wanted, found = logits(reference), logits(load_model(base / "base", torch.bfloat16))
    assert ((found - wanted).std(dim=1) < FAR[None] * wanted.std()).all()


@pytest.mark.parametrize("bits", [None, 8, 4])
@pytest.mark.parametrize("target", ["down_proj", "o_proj", "q_proj"])
def test_numbers_that_are_not_finite_make_their_row_unusable_and_no_other(base, bits, target):
    path = base / f"overflows-{target}"
    if not path.exists():
        save_adapter(path, base / "base", 0, 2, bad=3e38, targets=(target,), scale=1e6)
    model = load_model(base / "base", torch.bfloat16, bits=bits)
    adapter = AdapterReader(model.architecture, model.dtype, kernels=True).read("a", path)
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
            load_model(tmp_path, torch.bfloat16)


def test_weights_that_do_not_fit_twelve_bits_are_served_by_pytorch(tmp_path):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(torch.exp2(torch.randint(-60, 1, parameter.shape).float()))
    model.save_pretrained(tmp_path)
    served = load_model(tmp_path, torch.bfloat16)
    assert not isinstance(served, CompiledDecoder)
    cache = KVCache(served.architecture, 4, served.dtype)
    sequence = Sequence(1, [5, 6, 7], SamplingParams())
    assert cache.allocate(sequence, 3)
    assert Runner(served, cache, 1).step([Row(sequence, 3, 1)]).finite == [True]


def test_logits_are_kept_only_where_somebody_reads_them(base):
    model = load_model(base / "base", torch.bfloat16)
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
    assert found["plain"].best == found["read"].best == found["read"].values.argmax(dim=1).tolist()


@pytest.mark.timeout(60)
def test_a_lane_that_fails_keeps_no_other_waiting(base, monkeypatch):
    """The first of two; the other goes on where its chunk ends."""
    model = load_model(base / "base", torch.bfloat16)
    cache = KVCache(model.architecture, 40, model.dtype)
    sequence = Sequence(1, [5] * 500, SamplingParams())
    assert cache.allocate(sequence, 500)

    def attend(part, *arguments):
        if part.keys == 250:
            raise MemoryError
        return attend_prefill(part, *arguments)

    attend_prefill = lanes.attend_prefill
    monkeypatch.setattr(lanes, "attend_prefill", attend)
    with pytest.raises(MemoryError):
        Runner(model, cache, 2).step([Row(sequence, 500, 1)])


@pytest.fixture
def threads_of_steps(base, monkeypatch):
    """A runner on two threads, and on how many each of its steps was."""
    model = load_model(base / "base", torch.bfloat16)
    cache, used = KVCache(model.architecture, 10, torch.bfloat16), []
    runner = Runner(model, cache, 2)
    split = runner._lanes.split
    monkeypatch.setattr(runner._lanes, "split", lambda rows, threads: used.append(threads) or split(rows, threads))
    sequence = Sequence(1, list(range(60)), SamplingParams())
    assert cache.allocate(sequence, 60)
    return runner, sequence, used


def test_a_small_step_needs_not_give_way_to_work_beside_it(threads_of_steps):
    runner, sequence, used = threads_of_steps
    with runner.beside(), runner.beside():
        runner.step([Row(sequence, 1, 0)])
    assert used == [2]


@pytest.mark.skipif(len(processors()) < 2, reason="there is only one processor")
@pytest.mark.parametrize("count", [1, 40])
def test_lanes_keep_off_the_processor_of_the_compute_thread(threads_of_steps, count):
    runner, sequence, _ = threads_of_steps
    runner.step([Row(sequence, 1, 0)])  # the pool starts its thread
    runner.step([Row(sequence, count, 0)])
    assert len(runner._pool.submit(os.sched_getaffinity, 0).result()) == len(processors()) - 1


def test_any_number_of_a_rooms_threads_may_take_a_step(base):
    """What the others left of the step before must not count."""
    model = load_model(base / "base", torch.bfloat16)
    cache = KVCache(model.architecture, 20, model.dtype)
    split = lanes.CompiledLanes(model, cache, 3).split
    generator = torch.Generator().manual_seed(0)
    for threads in (3, 1, 2, 1, 3, 1, 2):
        rows = []
        for number, prompt in enumerate(torch.randint(0, 112, (4, 7), generator=generator).tolist()):
            sequence = Sequence(number, prompt, SamplingParams(temperature=0))
            assert cache.allocate(sequence, 7)
            rows.append(Row(sequence, 7, 1))
        with ThreadPoolExecutor(3) as pool:
            best = [logits.best for logits in pool.map(lambda member: member.run(), split(rows, threads))]
        alone = lanes.CompiledLanes(model, cache, 1).split(rows, 1)[0].run()
        assert best == [alone.best, *[[]] * (threads - 1)]
        for row in rows:
            cache.free(row.sequence)


@njit
def attended(qkv, keys, values, tables, lengths, window, kv_heads, first, end, scores, room, out):
    places = keys.ctypes.data, values.ctypes.data
    attention.attend(qkv, *places, tables, lengths, window, kv_heads, first, end, scores, room, out)


@pytest.mark.parametrize("window", [0, 24])
@pytest.mark.parametrize("dim", [16, 48, 64, 128])
@pytest.mark.parametrize("group", [1, 2, 3, 4, 5, 7])
def test_attention_of_any_number_of_heads_and_dimensions(group, dim, window):
    """What lies behind a row's last key is another's, and may be anything."""
    generator, kv_heads, lengths = torch.Generator().manual_seed(0), 2, (1, 16, 17, 50)
    keys, values = (torch.randn(len(lengths), 64, kv_heads, dim, generator=generator).bfloat16() for _ in range(2))
    queries = torch.randn(len(lengths), kv_heads, group, dim, generator=generator).bfloat16()
    wanted = torch.empty(queries.shape)
    for i, length in enumerate(lengths):
        keys[i, length:] = values[i, length:] = torch.nan
        seen = slice(max(0, length - window) if window else 0, length)
        scores = torch.einsum("ghd,pgd->ghp", queries[i].float(), keys[i, seen].float()) / dim**0.5
        wanted[i] = torch.einsum("ghp,pgd->ghd", scores.softmax(dim=2), values[i, seen].float())
    blocks = [t.view(-1, 16, kv_heads, dim) for t in (keys, values)]
    cached = [blocks[0].permute(0, 2, 3, 1), blocks[1].permute(0, 2, 1, 3)]
    qkv = torch.cat([queries.flatten(1), torch.zeros(len(lengths), 2 * kv_heads * dim, dtype=torch.bfloat16)], dim=1)
    bits = [t.contiguous().view(torch.uint16).numpy() for t in (qkv, *cached)]
    out = np.zeros((len(lengths), kv_heads * group * dim), np.uint16)
    scores, room = np.empty((group, 64), np.float32), np.empty((2, group, dim), np.float32)
    tables = np.arange(len(lengths) * 4).reshape(-1, 4)
    for first, end in ((0, 3), (3, len(lengths) * kv_heads)):
        attended(*bits, tables, np.array(lengths), window, kv_heads, first, end, scores, room, out)
    found = torch.from_numpy(out).view(torch.bfloat16).view(wanted.shape)
    torch.testing.assert_close(found.float(), wanted, atol=2e-2, rtol=2e-2)
