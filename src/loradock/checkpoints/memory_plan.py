"""Plans an engine's memory for a model, before it is started: one plan for who starts it and itself."""

from dataclasses import dataclass

from loradock.checkpoints.architecture import Architecture

BLOCK_TOKENS = 16
"""Tokens whose keys and values lie together in the cache."""

DEFAULT_CONTEXT, _LEAST_CONTEXT = 8192, 2048
"""Tokens; of models that can do with as many. The least is taken where there is room for no more."""

_GIB, _MIB = 2**30, 2**20
_MOST_CACHE = _MOST_ADAPTERS = 2 * _GIB
_LEAST_ADAPTERS = 32 * _MIB
_PROGRAM = 256 * _MIB
"""The bytes an engine takes without a model's weights and cache: Python, NumPy, a tokenizer. 80 MiB with SmolLM2-135M,
more with larger vocabularies; files that it maps are not in it, for the system takes them back when it has to."""

_STEP_ROWS, _SEQUENCES = 256, 64
_SCALES = 1.13
"""The factor by which scales enlarge weights in few bits."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """A memory plan in bytes. `context`: how many tokens one sequence may have, with this cache."""

    weights: int
    cache: int
    adapters: int
    program: int
    context: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.adapters + self.program

    def __str__(self) -> str:
        parts = {"weights": self.weights, "KV cache": self.cache, "adapters": self.adapters, "program": self.program}
        return f"{gib(self.total)} GiB: " + ", ".join(f"{gib(size)} {name}" for name, size in parts.items())


@dataclass(frozen=True, slots=True)
class MemoryWishes:
    """The values that an operator has fixed; None: left to the plan. `bits`: of a weight of a layer."""

    bits: float = 16
    int8_cache: bool = False
    cache: int | None = None
    adapters: int | None = None
    context: int | None = None
    lora: bool = True

    @property
    def cache_itemsize(self) -> int:
        """The bytes of a number in the KV cache."""
        if self.int8_cache:
            return 1
        return 4 if self.bits > 16 else 2


def plan_memory(a: Architecture, budget: int, wishes: MemoryWishes) -> MemoryPlan:
    """Plan a model's memory within `budget` bytes: of what weights and program leave, up to a half is for the cache and
    a quarter for adapters. A context is as long as the model's own if a quarter of the rest, or the usual cache, holds
    it. Where not even 8,192 tokens fit, the cache takes what there is, and contexts are shorter. The plan is over the
    budget where even the least does not fit."""
    weights, program = weight_bytes(a, wishes.bits), _PROGRAM + _buffers(a)
    rest = max(0, budget - weights - program)
    least = wishes.adapters if wishes.adapters is not None else _LEAST_ADAPTERS
    least = least if wishes.lora else 0
    context = wishes.context or _fitting_context(a, wishes, rest - least)
    cache = wishes.cache
    if cache is None:
        block = block_bytes(a, wishes.cache_itemsize)
        most = max(_MOST_CACHE, min(rest // 4, _cache_of(a, wishes, a.max_positions)))
        cache = max(_cache_of(a, wishes, context), min(most, rest // 2, rest - least) // block * block)
    adapters = least
    if wishes.adapters is None and wishes.lora:
        adapters = max(least, min(_MOST_ADAPTERS, rest // 4, rest - cache))
    if wishes.context is None:
        context = max(context, min(a.max_positions, _context_in(a, wishes, cache)))
    return MemoryPlan(weights, cache, adapters, program, context)


def block_bytes(a: Architecture, itemsize: int) -> int:
    """Return the bytes of one block of the cache, in all layers. Numbers of one byte have scales of two: a token's key
    of a head, and its value."""
    return 2 * a.layers * BLOCK_TOKENS * a.kv_heads * (a.head_dim * itemsize + (2 if itemsize == 1 else 0))


def weight_bytes(a: Architecture, bits: float) -> int:
    """Embeddings stay in 16 bits where the layers are kept in fewer."""
    layers = a.layers * sum(out * into for out, into in a.linears().values())
    table = a.vocab_size * a.hidden_size
    each = bits / 8 * (_SCALES if bits < 16 else 1)
    head = 0 if a.tie_embeddings and bits >= 16 else table * each
    return int(layers * each + table * max(each, 2) + head)


def gib(size: int) -> str:
    text = f"{size / _GIB:.2f}"
    return text.removesuffix("0") if text.endswith("0") else text


def _buffers(a: Architecture) -> int:
    """Return the bytes of one step: its rows' activations and its sequences' logits, in 32 bits."""
    return 4 * (_STEP_ROWS * (3 * a.intermediate_size + 4 * a.hidden_size) + _SEQUENCES * a.vocab_size)


def _cache_of(a: Architecture, wishes: MemoryWishes, context: int) -> int:
    return (-(-context // BLOCK_TOKENS) + 1) * block_bytes(a, wishes.cache_itemsize)


def _fitting_context(a: Architecture, wishes: MemoryWishes, room: int) -> int:
    """The usual one, or the longest that fits, by steps of 1,024 tokens."""
    usual = min(a.max_positions, DEFAULT_CONTEXT)
    if wishes.cache is not None:
        return usual
    return min(usual, max(_LEAST_CONTEXT, _context_in(a, wishes, room)))


def _context_in(a: Architecture, wishes: MemoryWishes, cache: int) -> int:
    """The longest context that so many bytes hold, in steps of 1,024 tokens."""
    return (cache // block_bytes(a, wishes.cache_itemsize) - 1) * BLOCK_TOKENS // 1024 * 1024
