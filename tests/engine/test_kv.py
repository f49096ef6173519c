"""The paged cache: no block is ever lost, doubly owned, or reused for other tokens or another adapter."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from loradock.checkpoints.architecture import Architecture
from loradock.engine.core import SamplingParams, Sequence
from loradock.engine.dtypes import Dtype
from loradock.engine.kv_cache.kv import BLOCK_SIZE, KVCache

ARCHITECTURE = Architecture("llama", 8, 8, 8, 1, 1, 1, 8, 10000.0, 1e-5, 512)
BLOCKS = 12
FIRST, SECOND = SimpleNamespace(load_id=1), SimpleNamespace(load_id=2)


def a_cache(blocks: int = BLOCKS) -> KVCache:
    return KVCache(ARCHITECTURE, blocks, Dtype.FLOAT32)


def a_sequence(tokens, adapter=None) -> Sequence:
    return Sequence(1, list(tokens), SamplingParams(), adapter)


def compute(cache, sequence):
    assert cache.allocate(sequence, len(sequence))
    sequence.computed = len(sequence)


def matched(cache, tokens, adapter=None) -> int:
    sequence = a_sequence(tokens, adapter)
    cache.match_prefix(sequence)
    found = sequence.computed
    cache.free(sequence)
    return found


def test_full_blocks_are_found_again_but_for_the_last_token():
    cache, tokens = a_cache(), range(3 * BLOCK_SIZE)
    sequence = a_sequence(tokens)
    compute(cache, sequence)
    cache.free(sequence)
    assert matched(cache, tokens) == 2 * BLOCK_SIZE
    assert matched(cache, [*tokens, 99]) == 3 * BLOCK_SIZE
    assert matched(cache, [99, *tokens]) == 0


def test_adapters_and_base_never_share_blocks():
    cache, tokens = a_cache(), range(3 * BLOCK_SIZE)
    for adapter in (None, FIRST):
        sequence = a_sequence(tokens, adapter)
        compute(cache, sequence)
        cache.free(sequence)
    assert [matched(cache, tokens, a) for a in (None, FIRST, SECOND)] == [2 * BLOCK_SIZE, 2 * BLOCK_SIZE, 0]
    cache.forget_adapter(FIRST.load_id)
    assert [matched(cache, tokens, a) for a in (None, FIRST)] == [2 * BLOCK_SIZE, 0]
    assert cache.available == BLOCKS


def test_the_oldest_idle_blocks_are_overwritten_first():
    cache = a_cache(4)
    old, new = range(100, 100 + BLOCK_SIZE + 1), range(200, 200 + BLOCK_SIZE + 1)
    for tokens in (old, new):
        sequence = a_sequence(tokens)
        compute(cache, sequence)
        cache.free(sequence)
    large = a_sequence(range(3 * BLOCK_SIZE))
    compute(cache, large)
    assert (matched(cache, old), matched(cache, new)) == (0, BLOCK_SIZE)


def test_too_few_blocks_change_nothing():
    cache = a_cache(2)
    sequence = a_sequence(range(3 * BLOCK_SIZE))
    assert not cache.allocate(sequence, len(sequence))
    assert sequence.blocks == []
    assert cache.available == 2


class CacheLife(RuleBasedStateMachine):
    """Each block's content is modelled by what was computed into it; what is matched must hold just that."""

    def __init__(self):
        super().__init__()
        self.cache = a_cache()
        self.held: list[Sequence] = []
        self.content: dict[int, tuple] = {}

    @rule(
        runs=st.lists(st.integers(0, 1), min_size=1, max_size=4),
        tail=st.integers(1, BLOCK_SIZE),
        adapter=st.sampled_from([None, FIRST, SECOND]),
    )
    def admit(self, runs, tail, adapter):
        sequence = a_sequence(
            [t for t in runs for _ in range(BLOCK_SIZE)][: (len(runs) - 1) * BLOCK_SIZE + tail], adapter
        )
        self.cache.match_prefix(sequence)
        assert sequence.computed < len(sequence)
        for index, block in enumerate(sequence.blocks):
            assert self.content[block] == self._written(sequence, index)
        if not self.cache.allocate(sequence, len(sequence)):
            self.cache.free(sequence)
            return
        for index in range(sequence.computed // BLOCK_SIZE, len(sequence.blocks)):
            self.content[sequence.blocks[index]] = self._written(sequence, index)
        sequence.computed = len(sequence)
        self.held.append(sequence)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), token=st.integers(0, 1))
    def grow(self, data, token):
        sequence = data.draw(st.sampled_from(self.held))
        if not self.cache.allocate(sequence, len(sequence) + 1):
            return
        sequence.output.append(token)
        sequence.computed += 1
        last = len(sequence.blocks) - 1
        self.content[sequence.blocks[last]] = self._written(sequence, last)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def remember(self, data):
        self.cache.remember(data.draw(st.sampled_from(self.held)))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data):
        sequence = data.draw(st.sampled_from(self.held))
        self.held.remove(sequence)
        self.cache.free(sequence)
        assert sequence.blocks == []

    @rule(adapter=st.sampled_from([FIRST, SECOND]))
    def unload(self, adapter):
        for sequence in [s for s in self.held if s.adapter is adapter]:
            self.held.remove(sequence)
            self.cache.free(sequence)
        self.cache.forget_adapter(adapter.load_id)
        assert matched(self.cache, [0] * (2 * BLOCK_SIZE), adapter) == 0

    @rule()
    def rest(self):
        self.cache.give_back(0)
        assert matched(self.cache, [0] * (2 * BLOCK_SIZE), SimpleNamespace(load_id=3)) == 0

    @invariant()
    def every_block_is_held_or_available(self):
        held = {block for sequence in self.held for block in sequence.blocks}
        assert self.cache.available + len(held) == BLOCKS

    @invariant()
    def the_block_being_written_has_one_owner(self):
        owners = [block for s in self.held for block in s.blocks[len(s) // BLOCK_SIZE :]]
        shared = [block for s in self.held for block in set(s.blocks)]
        assert all(shared.count(block) == 1 for block in owners)

    @staticmethod
    def _written(sequence, index):
        tokens = tuple(sequence.tokens[: (index + 1) * BLOCK_SIZE])
        return (sequence.adapter and sequence.adapter.load_id, tokens)


TestCacheLife = CacheLife.TestCase
TestCacheLife.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def private_bytes():
    memory = psutil.Process().memory_info()
    return memory.rss - memory.shared


@pytest.mark.skipif(sys.platform != "linux", reason="memory is given back on Linux only")
def test_unused_blocks_are_given_back_and_what_is_in_use_stays():
    wide = replace(ARCHITECTURE, layers=4, kv_heads=4, head_dim=64)
    cache = KVCache(wide, 2048, Dtype.FLOAT32)
    kept, gone = (
        Sequence(1, list(range(160)), SamplingParams()),
        Sequence(2, list(range(5000, 35000)), SamplingParams()),
    )
    for sequence in (kept, gone):
        assert cache.allocate(sequence, len(sequence))
        cache.memory[sequence.blocks] = 15
        sequence.computed = len(sequence)
    full = private_bytes()
    cache.free(gone)
    assert cache.give_back(3600) < 10 << 20  # its blocks are known: the next one of the same prompt finds them
    assert cache.give_back(0) > 200 << 20
    assert full - private_bytes() > 200 << 20
    assert (cache.memory[kept.blocks] == 15).all()
    assert cache.give_back(0) == 0
    again = Sequence(3, list(range(5000, 35000)), SamplingParams())
    cache.match_prefix(again)
    assert again.blocks == []
    assert cache.allocate(again, len(again))
    assert not set(again.blocks) & set(kept.blocks)
    assert (cache.memory[again.blocks[:-1]][20:] == 0).all()
