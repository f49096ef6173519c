"""Puts an engine together from its options."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from loradock.checkpoints.base_config import read_architecture
from loradock.checkpoints.gguf.gguf_metadata import open_gguf
from loradock.checkpoints.memory_plan import MemoryPlan, MemoryWishes, plan_memory
from loradock.checkpoints.packed_cache import cache_folder
from loradock.engine.adapters.adapters import Adapters
from loradock.engine.adapters.lora import LoadedAdapter
from loradock.engine.adapters.residency import AdapterMemory
from loradock.engine.dtypes import Dtype
from loradock.engine.generation.generation import Event, Generation
from loradock.engine.kernels.constants import BLOCK_SIZE
from loradock.engine.kv_cache.disk import DiskBlocks
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.kv_cache.layout import KVLayout
from loradock.engine.models.lanes import Decoder
from loradock.engine.models.loading import adapter_reader, load_model
from loradock.engine.models.runner import Runner
from loradock.engine.process.options import EngineOptions
from loradock.engine.scheduling.loop import EngineLoop
from loradock.engine.scheduling.open_generations import Deliver
from loradock.engine.scheduling.scheduler import Scheduler
from loradock.engine.self_check.proof import prove
from loradock.engine.service.limits import Limits
from loradock.engine.service.service import Service
from loradock.engine.text.conversations import bring_conventions
from loradock.engine.text.tokenizer import load_tokenizer
from loradock.machine.share import memory_to_give, usable_processors
from loradock.types.errors import BadRequest

log = logging.getLogger(__name__)
_BITS = {"int4": 4, "int8": 8, None: None}
_PLENTY = 2**40


def build(options: EngineOptions, event_loop: asyncio.AbstractEventLoop, on_fatal: Callable[[str], None]) -> Service:
    """The whole, ready to answer. Raises BadRequest when the model cannot be served with these options, and
    WrongNumbers when a kernel computes wrongly."""
    begun = time.perf_counter()
    plan = memory_plan(options)
    loop = build_loop(options, lambda e: event_loop.call_soon_threadsafe(_send, e), on_fatal, plan)
    model, cache = loop.runner.model, loop.runner.cache
    # Kernels compute without the interpreter's lock, which the tokenizer's library takes for itself.
    loop.start()
    warm = loop.call(loop.runner.warm_up)
    proved = loop.call(lambda: prove(model, loop.runner.threads, int8_cache=cache.layout.int8))
    try:
        files = load_tokenizer(options.model, model.architecture)
        limits = Limits(plan.context, model.architecture.vocab_size, options.max_num_seqs, options.max_waiting)
        service = Service(loop, _adapters(options, model, loop, plan), files, limits)
    finally:
        warm.result()
        proved.result()
    open_gguf.cache_clear()  # all of it that is needed has been read: its vocabulary alone takes several MiB
    log.info(
        "loaded %s in %.1f s: context %d of the model's %d tokens, cache for %d tokens, %d threads; memory planned: %s",
        options.model.name,
        time.perf_counter() - begun,
        plan.context,
        model.architecture.max_positions,
        cache.blocks * BLOCK_SIZE,
        loop.runner.threads,
        plan,
    )
    return service


def memory_plan(options: EngineOptions) -> MemoryPlan:
    """Within what this machine has left; whoever starts replicas has planned before, and says so in the options. Raises
    BadRequest."""
    architecture = read_architecture(options.model)
    if options.max_model_len is not None and options.max_model_len > architecture.max_positions:
        raise BadRequest(
            f"--max-model-len {options.max_model_len} is above the model's context of {architecture.max_positions}"
        )
    wishes = MemoryWishes(
        bits=_BITS[options.quantization] or 8 * Dtype(options.dtype).itemsize,
        int8_cache=options.kv_cache_dtype == "int8",
        cache=_bytes(options.kv_cache_gib),
        adapters=_bytes(options.lora_ram_gib),
        context=options.max_model_len,
        lora=not options.disable_lora,
    )
    return plan_memory(architecture, memory_to_give() if options.device == "cpu" else _PLENTY, wishes)


def _bytes(gib: float | None) -> int | None:
    return None if gib is None else int(gib * 2**30)


def build_loop(
    options: EngineOptions, deliver: Deliver, on_fatal: Callable[[str], None], plan: MemoryPlan | None = None
) -> EngineLoop:
    """The part without names, text and HTTP. Raises BadRequest."""
    plan = plan or memory_plan(options)
    threads = options.threads or usable_processors()
    bits = _BITS[options.quantization]
    model = load_model(options.model, Dtype(options.dtype), options.device, bits=bits)
    int8_cache = options.kv_cache_dtype == "int8"
    if not model.kernels and (int8_cache or options.prefix_cache_disk_gib > 0):
        flag = "--kv-cache-dtype int8" if int8_cache else "--prefix-cache-disk-gib"
        raise BadRequest(f"{flag} needs the compiled kernels, which do not compute this model on {options.device}")
    cache = _cache(plan, model, int8_cache)
    if options.prefix_cache_disk_gib > 0:
        _use_disk(cache, options.prefix_cache_disk_gib)
    # Elsewhere a row comes out a little different beside others, and answers would depend on drafts.
    drafts = options.speculative_tokens if model.kernels else 0
    scheduler = Scheduler(cache, options.max_num_seqs, options.max_step_tokens, options.max_loras, drafts)
    return EngineLoop(Runner(model, cache, threads), scheduler, deliver, on_fatal)


def _send(events: list[tuple[Generation, Event]]) -> None:
    for generation, event in events:
        try:
            generation.send(event)
        except Exception:  # the others of the step have theirs to come
            log.exception("an event cannot be delivered")


def _adapters(options: EngineOptions, model: Decoder, loop: EngineLoop, plan: MemoryPlan) -> Adapters:
    reader = adapter_reader(model, max_rank=options.max_lora_rank)

    def read(name: str, path: Path) -> LoadedAdapter:
        return bring_conventions(reader.read(name, path))

    async def forget(adapter: LoadedAdapter) -> None:
        def between_steps() -> None:
            loop.runner.mixing.forget(adapter.load_id)
            loop.scheduler.cache.forget_adapter(adapter.load_id)
            loop.scheduler.drafter.forget_adapter(adapter.load_id)

        await asyncio.wrap_future(loop.call(between_steps))

    at_most = {"max_adapters": options.max_cpu_loras, "max_bytes": plan.adapters}
    memory = AdapterMemory(reader.check, read, forget, **at_most)
    names = options.served_model_name or [options.model.stem]
    return Adapters(names, memory, lambda: loop.scheduler.turns.active, enabled=not options.disable_lora)


def _cache(plan: MemoryPlan, model: Decoder, int8: bool) -> KVCache:
    a = model.architecture
    block = KVLayout(a, model.dtype, int8).block_bytes
    needed = -(-plan.context // BLOCK_SIZE) + 1
    blocks = plan.cache // block
    if blocks < needed:
        raise BadRequest(
            f"--kv-cache-gib {plan.cache / 2**30:.3g} holds {blocks * BLOCK_SIZE} tokens, less than one context of"
            f" {plan.context}: give at least {needed * block / 2**30:.2f} or lower --max-model-len"
        )
    return KVCache(a, blocks, model.dtype, int8=int8)


def _use_disk(cache: KVCache, gib: float) -> None:
    folder = cache_folder().parent / "prefixes"
    try:
        cache.disk = DiskBlocks(folder, cache.layout.block_bytes, int(gib * 2**30))
    except OSError as error:
        raise BadRequest(f"--prefix-cache-disk-gib: {folder} cannot be used: {error}") from error
