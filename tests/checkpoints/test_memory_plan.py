"""The plan of an engine's memory: within its budget wherever it can be, and never a cache that is too small."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.base_config import read_architecture
from loradock.checkpoints.memory_plan import BLOCK_TOKENS, MemoryWishes, block_bytes, plan_memory, weight_bytes
from tests.engine.tiny import SMOLLM2

GIB, MIB = 2**30, 2**20
LLAMA_8B = Architecture("llama", 128256, 4096, 14336, 32, 32, 8, 128, 5e5, 1e-5, 131072)


def test_weights_are_those_of_the_model():
    assert 255 * MIB < weight_bytes(read_architecture(SMOLLM2), 16) < 260 * MIB
    assert 14.9 * GIB < weight_bytes(LLAMA_8B, 16) < 15.1 * GIB
    assert 4.5 * GIB < weight_bytes(LLAMA_8B, 4) < 6 * GIB


def test_on_a_large_machine_cache_and_adapters_have_what_they_are_used_to():
    plan = plan_memory(read_architecture(SMOLLM2), 22 * GIB, MemoryWishes())
    assert (plan.context, plan.adapters) == (8192, 2 * GIB)
    assert 2 * GIB - plan.cache < block_bytes(read_architecture(SMOLLM2), 2)


def test_in_a_small_group_contexts_are_shorter_rather_than_the_kernel_ending_it():
    plan = plan_memory(read_architecture(SMOLLM2), 700 * MIB, MemoryWishes())
    assert plan.total <= 700 * MIB
    assert 2048 <= plan.context < 8192


def test_contexts_are_as_long_as_the_model_s_own_where_the_cache_has_room():
    shape = replace(LLAMA_8B, layers=16, kv_heads=8, head_dim=64, max_positions=32768)
    assert plan_memory(shape, 22 * GIB, MemoryWishes()).context == 32768
    held = plan_memory(LLAMA_8B, 36 * GIB, MemoryWishes())
    halved = plan_memory(LLAMA_8B, 36 * GIB, MemoryWishes(int8_cache=True))
    assert 30000 < held.context < 50000 < 1.9 * held.context < halved.context < 2 * held.context
    large = plan_memory(LLAMA_8B, 128 * GIB, MemoryWishes())
    assert large.context == 131072
    assert large.cache < 17 * GIB


def test_what_does_not_fit_says_how_much_it_needs():
    plan = plan_memory(LLAMA_8B, 8 * GIB, MemoryWishes())
    assert plan.total > 15 * GIB
    assert plan.context == 2048
    assert str(plan).startswith("15.")


def test_what_the_operator_has_fixed_is_left_alone():
    plan = plan_memory(LLAMA_8B, 64 * GIB, MemoryWishes(4, cache=3 * GIB, adapters=GIB, context=4096))
    assert (plan.cache, plan.adapters, plan.context) == (3 * GIB, GIB, 4096)
    assert plan_memory(LLAMA_8B, 64 * GIB, MemoryWishes(lora=False)).adapters == 0


@given(
    budget=st.integers(0, 64 * GIB),
    bits=st.sampled_from([4, 8, 16, 32]),
    positions=st.sampled_from([512, 2048, 4096, 131072]),
    small=st.booleans(),
    lora=st.booleans(),
)
def test_whatever_the_machine(budget, bits, positions, small, lora):
    a = replace(read_architecture(SMOLLM2) if small else LLAMA_8B, max_positions=positions)
    plan = plan_memory(a, budget, MemoryWishes(bits, lora=lora))
    least = plan_memory(a, 0, MemoryWishes(bits, lora=lora))
    assert plan.total <= max(budget, least.total)
    assert plan.cache >= (plan.context // BLOCK_TOKENS + 1) * block_bytes(a, 4 if bits > 16 else 2)
    assert min(positions, 2048) <= plan.context <= positions
    assert plan.weights == least.weights
