"""A step through a `TorchDecoder`: all rows in one lane."""

import numpy as np
import torch

from loradock.engine.adapters.multi_lora import Mixing
from loradock.engine.core import Logits, Row
from loradock.engine.generation.sampling import largest
from loradock.engine.kernels.constants import BLOCK_SIZE
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.models.lanes import Lane, wanted_of
from loradock.engine.torch_models.attention import AttentionBatch, TorchCache
from loradock.engine.torch_models.decoder import TorchDecoder
from loradock.engine.torch_models.lora import StackedLora


class TorchLanes:
    """Makes one lane of a step."""

    small = 0

    def __init__(self, model: TorchDecoder, cache: KVCache) -> None:
        self._model = model
        a = model.architecture
        shape = (a.layers, cache.blocks, a.kv_heads)
        self._cache = TorchCache(
            torch.zeros((*shape, a.head_dim, BLOCK_SIZE), dtype=model.torch_dtype, device=model.device),
            torch.zeros((*shape, BLOCK_SIZE, a.head_dim), dtype=model.torch_dtype, device=model.device),
        )
        self._lora = StackedLora(a.layers, model.torch_dtype, model.device)

    @property
    def mixing(self) -> Mixing:
        return self._lora

    def split(self, rows: list[Row], threads: int) -> list[Lane]:
        return [_TorchLane(self._model, self._cache, self._lora, rows)]

    def warm_up(self) -> None:
        """Do nothing: torch is ready."""


class _TorchLane:
    def __init__(self, model: TorchDecoder, cache: TorchCache, lora: StackedLora, rows: list[Row]) -> None:
        self._model = model
        self._rows = rows
        device = self._model.device
        self._tokens = torch.tensor([t for row in rows for t in row.tokens], device=device)
        positions = np.array([p for row in rows for p in range(row.start, row.start + row.count)])
        rotary = (torch.from_numpy(table).to(device) for table in model.rotary.at(positions))
        self._attention = AttentionBatch(model.architecture, cache, rows, *rotary)
        self._lora = lora.batch([row.sequence.adapter for row in rows for _ in range(row.count)])

    @torch.inference_mode()
    def run(self, threads: int) -> Logits:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        hidden = self._model.forward(self._tokens, self._attention, self._lora)
        decoding = all(row.count == row.logits == 1 for row in self._rows)
        logits = self._model.logits(hidden if decoding else hidden[wanted_of(self._rows)]).float().cpu().numpy()
        return Logits([logits], *largest(logits))
