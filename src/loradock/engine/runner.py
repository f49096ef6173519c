"""One step: the packed tokens of all rows through the model, mixed adapters and all."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import torch

from loradock.engine.attention import AttentionBatch, KernelAttentionBatch
from loradock.engine.core import Row, SamplingParams, Sequence
from loradock.engine.kv import KVCache
from loradock.engine.mixing import KernelTables, LoraStacks, Mixing
from loradock.engine.model import Decoder
from loradock.engine.threads import ThreadCount

LANE_TOKENS = 8
"""A lane with fewer tokens would read all weights for little work."""
UNEVEN = 1.5
"""How much longer than the average the longest lane may be; otherwise all threads share one."""


class Runner:
    """Runs steps on one model and its cache; not thread-safe.

    With the kernels a step is split into lanes, groups of rows that go through the model side by side, each on its own
    share of the threads: nobody waits for anybody between two small operations, as threads within one would.
    """

    def __init__(self, model: Decoder, cache: KVCache, threads: int | None = None) -> None:
        self.model, self.cache = model, cache
        self.threads = threads or os.cpu_count() or 1
        self._lanes = self.threads if model.kernels else 1
        self._pool = ThreadPoolExecutor(max(1, self._lanes - 1), thread_name_prefix="lane")
        self._small: dict[int, ThreadCount] = {}
        self.mixing: Mixing
        if model.kernels:
            self.mixing = KernelTables(model.dtype)
        else:
            self.mixing = LoraStacks(model.architecture.layers, model.dtype, model.device)

    @torch.inference_mode()
    def step(self, rows: list[Row]) -> torch.Tensor:
        """Logits `[sum of row.logits, vocab]`, decode rows first as given.

        `rows` must hold their blocks already, single-token rows before chunks. Advances `sequence.computed`.
        """
        parts = self._parts(rows)
        lanes = [_Lane(self, part) for part in parts]
        if len(lanes) == 1:
            logits = self._run_alone(lanes[0], sum(row.count for row in rows))
        else:
            threads = max(1, self.threads // len(lanes))
            others = [self._pool.submit(lane.run, threads) for lane in lanes[1:]]
            logits = torch.cat([lanes[0].run(threads), *(other.result() for other in others)])
        for row in rows:
            row.sequence.computed += row.count
        return logits

    def _run_alone(self, lane: "_Lane", tokens: int) -> torch.Tensor:
        if not self.model.kernels or tokens >= 2 * LANE_TOKENS:
            return lane.run(self.threads)
        count = self._small.setdefault(tokens, ThreadCount(self.threads))
        begun = time.perf_counter()
        logits = lane.run(count.choose())
        count.record(time.perf_counter() - begun)
        return logits

    def warm_up(self) -> None:
        """Compute something, so that the first request does not wait for kernels to be read or compiled."""
        sequence = Sequence(0, [0, 0], SamplingParams())
        self.cache.allocate(sequence, len(sequence) + 1)
        self.step([Row(sequence, 2, 1)])
        sequence.output.append(0)
        self.step([Row(sequence, 1, 1)])
        self.cache.free(sequence)
        self.mixing.warm_up()

    def _parts(self, rows: list[Row]) -> list[list[Row]]:
        tokens = sum(row.count for row in rows)
        parts = _split(rows, min(self._lanes, max(1, tokens // LANE_TOKENS)))
        # Beside one long chunk the other lanes would soon have nothing to do.
        longest = max(sum(row.count for row in part) for part in parts)
        return parts if longest * len(parts) < UNEVEN * tokens else [rows]


class _Lane:
    """A share of a step's rows, made ready before any lane begins."""

    def __init__(self, runner: Runner, rows: list[Row]) -> None:
        self._model, self._rows = runner.model, rows
        device = self._model.device
        self._tokens = torch.tensor([t for row in rows for t in _chunk(row)], device=device)
        positions = torch.tensor(
            [p for row in rows for p in range(row.sequence.computed, row.sequence.computed + row.count)], device=device
        )
        rotary = self._model.cos[positions], self._model.sin[positions]
        kind = KernelAttentionBatch if self._model.kernels else AttentionBatch
        self._attention = kind(self._model.architecture, runner.cache, rows, *rotary)
        self._lora = runner.mixing.batch([row.sequence.adapter for row in rows for _ in range(row.count)])

    @torch.inference_mode()
    def run(self, threads: int) -> torch.Tensor:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        self._model.use_threads(threads)
        hidden = self._model.forward(self._tokens, self._attention, self._lora)
        decoding = all(row.count == row.logits == 1 for row in self._rows)
        return self._model.logits(hidden if decoding else hidden[_wanted(self._rows)])


def _split(rows: list[Row], lanes: int) -> list[list[Row]]:
    """Consecutive rows, so that the lanes' logits follow each other; of about equal numbers of tokens."""
    share = sum(row.count for row in rows) / lanes
    parts: list[list[Row]] = [[]]
    tokens = 0
    for row in rows:
        if parts[-1] and len(parts) < lanes and tokens + row.count / 2 > share * len(parts):
            parts.append([])
        parts[-1].append(row)
        tokens += row.count
    return parts


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
