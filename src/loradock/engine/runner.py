"""One step: the packed tokens of all rows through the model, mixed adapters and all."""

import torch

from loradock.engine.attention import AttentionBatch
from loradock.engine.core import Row
from loradock.engine.kv import KVCache
from loradock.engine.lora import LoraStacks
from loradock.engine.model import Decoder


class Runner:
    """Runs steps on one model and its cache; not thread-safe."""

    def __init__(self, model: Decoder, cache: KVCache) -> None:
        self.model, self.cache = model, cache
        self.stacks = LoraStacks(model.architecture.layers, model.dtype, model.device)

    @torch.inference_mode()
    def step(self, rows: list[Row]) -> torch.Tensor:
        """float32 logits `[sum of row.logits, vocab]`, decode rows first as given.

        `rows` must hold their blocks already, single-token rows before chunks. Advances `sequence.computed`.
        """
        device = self.model.device
        tokens = [t for row in rows for t in _chunk(row)]
        positions = [p for row in rows for p in range(row.sequence.computed, row.sequence.computed + row.count)]
        owners = [row.sequence.adapter for row in rows for _ in range(row.count)]
        attention = AttentionBatch(self.cache, rows, self.model.architecture.sliding_window)
        hidden = self.model.forward(
            torch.tensor(tokens, device=device),
            torch.tensor(positions, device=device),
            attention,
            self.stacks.batch(owners),
        )
        for row in rows:
            row.sequence.computed += row.count
        return self.model.logits(hidden[_wanted(rows)])


def _chunk(row: Row) -> list[int]:
    sequence = row.sequence
    if row.count == 1 and sequence.computed >= len(sequence.prompt):
        return [sequence.output[sequence.computed - len(sequence.prompt)]]
    return sequence.tokens[sequence.computed : sequence.computed + row.count]


def _wanted(rows: list[Row]) -> list[int]:
    wanted: list[int] = []
    end = 0
    for row in rows:
        end += row.count
        wanted.extend(range(end - row.logits, end))
    return wanted
