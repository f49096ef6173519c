"""Beginnings of prompts that are known, in memory or on disk: their blocks are shared or filled, not computed."""

from loradock.engine.core import Sequence
from loradock.engine.kernels.constants import BLOCK_SIZE
from loradock.engine.kernels.memory import Array
from loradock.engine.kv_cache.chains import Chain, extended, root
from loradock.engine.kv_cache.kv import KVCache

_AT_ONCE = 32
"""Blocks that are read between two steps, some 10 to 60 MB: others do not wait for long."""


class Prefixes:
    """What sequences need not compute."""

    def __init__(self, cache: KVCache) -> None:
        self._cache = cache
        self.found_tokens = 0
        """Tokens of prompts that were known."""
        self.disk_tokens = 0
        """Of these, those that came from disk."""

    def match(self, sequence: Sequence) -> None:
        """Give a new sequence the blocks of its prompt that are in memory."""
        if _may_reuse(sequence):
            self._cache.match_prefix(sequence)

    def admitted(self, sequence: Sequence) -> None:
        """Count what was found of a sequence that takes part from now on."""
        self.found_tokens += sequence.computed
        sequence.restorable = _may_reuse(sequence)

    def fill(self, sequences: list[Sequence]) -> None:
        """Fill some of the next blocks of each, which they hold already, with what is known on disk."""
        if self._cache.disk is None:
            return
        left = _AT_ONCE
        for sequence in sequences:
            if left and sequence.restorable:
                done = self._fill_next(sequence, left)
                sequence.restorable = done == left
                left -= done
        self.found_tokens += (_AT_ONCE - left) * BLOCK_SIZE

    def _fill_next(self, sequence: Sequence, most: int) -> int:
        if sequence.computed % BLOCK_SIZE:
            return 0
        chain, tokens, done = root(sequence), sequence.tokens, 0
        for start in range(0, len(tokens) - BLOCK_SIZE, BLOCK_SIZE):
            chain = extended(chain, tokens[start : start + BLOCK_SIZE])
            if start < sequence.computed:
                continue
            if done == most or not self._fill_block(chain, self._cache.memory[sequence.blocks[start // BLOCK_SIZE]]):
                break
            done += 1
            sequence.computed += BLOCK_SIZE
        return done

    def _fill_block(self, chain: Chain, block: Array) -> bool:
        """Blocks in memory may follow those that had to leave it."""
        known = self._cache.known(chain)
        if known is not None:
            block[:] = known
            return True
        disk = self._cache.disk
        found = disk is not None and disk.read(chain, block)
        self.disk_tokens += BLOCK_SIZE * found
        return found


def _may_reuse(sequence: Sequence) -> bool:
    """Whether nobody wants the logits of its prompt, which would have to be computed."""
    return sequence.params.prompt_logprobs is None or bool(sequence.output)
