"""Puts an engine together from its command-line options."""

import argparse
import logging
import os
import time

import torch

from loradock.checkpoints.architecture import Architecture
from loradock.engine.adapters import AdapterTable
from loradock.engine.kv import BLOCK_SIZE, KVCache
from loradock.engine.loop import EngineLoop
from loradock.engine.model import load_model
from loradock.engine.runner import Runner
from loradock.engine.scheduler import Scheduler
from loradock.engine.service import GenerationService
from loradock.engine.tokenizer import load_tokenizer
from loradock.types.errors import BadRequest

log = logging.getLogger(__name__)
_DEFAULT_CONTEXT = 8192


def build(options: argparse.Namespace) -> tuple[GenerationService, EngineLoop]:
    """Raises BadRequest when the model cannot be served with these options."""
    begun = time.perf_counter()
    torch.set_num_threads(options.threads or os.cpu_count() or 1)
    dtype = getattr(torch, options.dtype)
    model = load_model(options.model, dtype, options.device)
    files = load_tokenizer(options.model, model.architecture)
    context = _context(options.max_model_len, model.architecture)
    cache = KVCache(
        model.architecture, _blocks(options.kv_cache_gib, model.architecture, dtype, context), dtype, options.device
    )
    loop = EngineLoop(Runner(model, cache), Scheduler(cache, options.max_num_seqs), files.eos_ids)
    adapters = AdapterTable(
        options.served_model_name or [options.model.stem],
        model.architecture,
        dtype,
        enabled=not options.disable_lora,
        max_loras=options.max_loras,
        max_rank=options.max_lora_rank,
        forget=loop.forget_adapter,
    )
    service = GenerationService(loop, adapters, files, context, model.architecture.vocab_size)
    log.info("loaded %s in %.1f s", options.model.name, time.perf_counter() - begun)
    return service, loop


def _context(wanted: int | None, architecture: Architecture) -> int:
    if wanted is not None and not 1 < wanted <= architecture.max_positions:
        raise BadRequest(f"--max-model-len {wanted}: this model's context has {architecture.max_positions} tokens")
    return wanted or min(architecture.max_positions, _DEFAULT_CONTEXT)


def _blocks(gib: float, a: Architecture, dtype: torch.dtype, context: int) -> int:
    per_block = 2 * a.layers * BLOCK_SIZE * a.kv_heads * a.head_dim * dtype.itemsize
    blocks = int(gib * 2**30 // per_block)
    needed = -(-context // BLOCK_SIZE) + 1
    if blocks < needed:
        raise BadRequest(
            f"--kv-cache-gib {gib} holds {blocks * BLOCK_SIZE} tokens but the context has {context}:"
            f" give {needed * per_block / 2**30:.2f} or lower --max-model-len"
        )
    return blocks
