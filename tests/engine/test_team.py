"""Threads that go through a lane together: nobody goes on before all are there, however few the processors."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from loradock.engine.core import Row, SamplingParams, Sequence
from loradock.engine.dtypes import Dtype
from loradock.engine.kernels.memory import aligned
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.models.loading import load_model
from loradock.engine.models.native_lanes import NativeLanes

STEPS = 40


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("team")
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=3, vocab_size=600)).save_pretrained(folder)
    return load_model(folder, Dtype.BFLOAT16)


@pytest.mark.parametrize("read", [True, False], ids=["logits read", "only the choice"])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_team_computes_what_one_does_step_after_step(model, size, read):
    """One that went on too early would read what is not written yet; one that waited in vain would never end."""
    cache = KVCache(model.architecture, 60, model.dtype)
    lanes = NativeLanes(model, cache, size)
    params = SamplingParams(prompt_logprobs=0) if read else SamplingParams(temperature=0.0)
    sequences = [Sequence(n, [n + 1, 5, 7], params) for n in range(3)]
    for sequence in sequences:
        assert cache.allocate(sequence, 3)
    rows = [Row(sequence, 3, 3) for sequence in sequences]
    (alone,) = NativeLanes(model, cache, 1).split(rows, 1)
    wanted = alone.run()
    assert bool(wanted.parts) is read
    assert len(wanted.best) == 9 and all(wanted.finite)
    with ThreadPoolExecutor(size) as pool:
        for _ in range(STEPS):
            members = lanes.split(rows, size)
            assert len(members) == size
            first, *others = pool.map(lambda lane: lane.run(), members)
            assert (first.best, first.finite) == (wanted.best, wanted.finite)
            assert not any(logits.parts or logits.best for logits in others)
            assert not read or np.array_equal(first.values, wanted.values)


def test_a_chunk_that_goes_on_in_another_lane_waits_for_its_beginning(model):
    cache = KVCache(model.architecture, 60, model.dtype)
    sequence = Sequence(1, list(range(400)), SamplingParams(prompt_logprobs=0))
    assert cache.allocate(sequence, 400)
    rows = [Row(sequence, 400, 400)]
    (alone,) = NativeLanes(model, cache, 1).split(rows, 1)
    wanted = alone.run().values
    for _ in range(STEPS // 4):
        parts = NativeLanes(model, cache, 3).split(rows, 3)
        assert len(parts) == 3
        with ThreadPoolExecutor(3) as pool:
            # The last begins first.
            done = [pool.submit(lane.run) for lane in reversed(parts)]
            found = np.concatenate([future.result().values for future in reversed(done)])
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize("shape", [3, (0, 5), (7, 9)])
def test_arrays_begin_a_line(shape):
    array = aligned(shape, np.float32)
    assert array.size == 0 or array.ctypes.data % 64 == 0
    array[:] = 1
    assert array.shape == (shape if isinstance(shape, tuple) else (shape,))
