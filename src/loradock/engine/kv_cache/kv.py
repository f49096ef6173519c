"""The paged KV cache: fixed-size blocks, and reuse of full blocks whose tokens and adapter are the same."""

import time
from collections import OrderedDict
from collections.abc import Iterator
from itertools import groupby

from loradock.checkpoints.architecture import Architecture
from loradock.engine.core import Sequence
from loradock.engine.dtypes import Dtype
from loradock.engine.kernels.constants import BLOCK_SIZE
from loradock.engine.kernels.memory import Array
from loradock.engine.kv_cache.chains import Chain, extended, root
from loradock.engine.kv_cache.disk import DiskBlocks
from loradock.engine.kv_cache.layout import KVLayout
from loradock.engine.runtime.heap import Droppable
from loradock.engine.runtime.mapping import zeros


class KVCache:
    """`memory` uint8 `[blocks, layers, kv_heads, head_bytes]` (see `KVLayout`).

    A block is one piece of memory, whose pages come when it is first used and go when it is given back.

    A full block is known by (adapter load, hash chain of its tokens); an unused known block stays until its
    space is needed, oldest first. With `disk` it goes there, and comes back when a prompt begins with it.
    """

    disk: DiskBlocks | None = None

    def __init__(self, architecture: Architecture, blocks: int, dtype: Dtype, *, int8: bool = False) -> None:
        self.layout = KVLayout(architecture, dtype, int8)
        self.memory = zeros(blocks * self.layout.block_bytes).reshape(blocks, *self.layout.shape)
        self.blocks = blocks
        self._free = list(range(blocks - 1, -1, -1))
        self._users = [0] * blocks
        self._known: dict[int, Chain] = {}
        self._by_content: dict[Chain, int] = {}
        self._idle: OrderedDict[int, float] = OrderedDict()
        """The idle blocks, and since when they are idle."""
        self._touched: set[int] = set()
        """Blocks that take memory: used, and not given back since."""
        self._droppable = Droppable(self.memory)

    @property
    def available(self) -> int:
        """Blocks that can be handed out now."""
        return len(self._free) + len(self._idle)

    @property
    def usage(self) -> float:
        """The share of blocks held by sequences."""
        return 1 - self.available / self.blocks

    def missing(self, sequence: Sequence, tokens: int) -> int:
        """Return how many more blocks `sequence` needs to hold `tokens` tokens."""
        return max(0, -(-tokens // BLOCK_SIZE) - len(sequence.blocks))

    def allocate(self, sequence: Sequence, tokens: int) -> bool:
        """Give `sequence` the blocks for `tokens` tokens; False, changing nothing, when there are too few."""
        missing = self.missing(sequence, tokens)
        if missing > self.available:
            return False
        sequence.blocks.extend(self._take() for _ in range(missing))
        return True

    def match_prefix(self, sequence: Sequence) -> None:
        """Give a new sequence the known blocks of its prompt; at least one token is left to compute."""
        chain, tokens = root(sequence), sequence.tokens
        for start in range(0, len(tokens) - BLOCK_SIZE, BLOCK_SIZE):
            chain = extended(chain, tokens[start : start + BLOCK_SIZE])
            block = self._by_content.get(chain)
            if block is None:
                return
            self._idle.pop(block, None)
            self._users[block] += 1
            sequence.blocks.append(block)
            sequence.computed += BLOCK_SIZE

    def known(self, chain: Chain) -> Array | None:
        """Return the block `[layers, kv_heads, bytes]` that is known by this chain."""
        block = self._by_content.get(chain)
        return None if block is None else self.memory[block]

    def remember(self, sequence: Sequence) -> None:
        """Make the sequence's full computed blocks known to later sequences."""
        chain, tokens = root(sequence), sequence.tokens
        for index in range(sequence.computed // BLOCK_SIZE):
            chain = extended(chain, tokens[index * BLOCK_SIZE : (index + 1) * BLOCK_SIZE])
            block = sequence.blocks[index]
            if chain not in self._by_content and block not in self._known:
                self._by_content[chain] = block
                self._known[block] = chain

    def free(self, sequence: Sequence) -> None:
        """Take the sequence's blocks back, its known ones last to be overwritten."""
        self.remember(sequence)
        now = time.monotonic()
        for block in reversed(sequence.blocks):
            self._users[block] -= 1
            if self._users[block] == 0:
                if block in self._known:
                    self._idle[block] = now
                else:
                    self._free.append(block)
        sequence.blocks.clear()
        sequence.computed = 0

    def forget_adapter(self, load_id: int) -> None:
        """Drop what is known of an unloaded adapter."""
        for block, chain in list(self._known.items()):
            if chain[0] == load_id:
                self._forget(block)
                if block in self._idle:
                    del self._idle[block]
                    self._free.append(block)
        if self.disk is not None:
            self.disk.forget_adapter(load_id)

    def give_back(self, idle_for: float) -> int:
        """Give the memory of unused blocks back to the system, forgetting what has been known and unused for so many
        seconds. Returns how many bytes that were, of whole pages only."""
        before = time.monotonic() - idle_for
        while self._idle and next(iter(self._idle.values())) <= before:
            self._free.append(self._leave_memory())
        unused = self._touched.intersection(self._free)
        self._touched -= unused
        size = self.layout.block_bytes
        given = sum(self._droppable.drop(first * size, end * size) for first, end in _runs(sorted(unused)))
        self._free.sort(reverse=True)  # low numbers are used first, so that what is unused stays together
        return given

    def _take(self) -> int:
        block = self._free.pop() if self._free else self._leave_memory()
        self._users[block] = 1
        self._touched.add(block)
        return block

    def _leave_memory(self) -> int:
        """The block that has been unused for longest."""
        block, _ = self._idle.popitem(last=False)
        if self.disk is not None:
            self.disk.put(self._known[block], self.memory[block])
        self._forget(block)
        return block

    def _forget(self, block: int) -> None:
        del self._by_content[self._known.pop(block)]


def _runs(blocks: list[int]) -> Iterator[tuple[int, int]]:
    """Yield for each run of consecutive numbers the first and the one after the last."""
    for _, run in groupby(enumerate(blocks), lambda pair: pair[1] - pair[0]):
        members = [block for _, block in run]
        yield members[0], members[-1] + 1
