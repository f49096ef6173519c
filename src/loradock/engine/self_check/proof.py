"""The compiled kernels against a known answer, at every start and before anything is served.

Machine code can be wrong where its source is right: a compiler's fault, a damaged library, a processor that
does not do what it says. A model's own shape decides which code runs. So a small random model of that shape (head size,
heads per key-value head, norms, biases, window, bits, remainders of its widths) goes through the very functions that
will serve, with two adapters, in steps of many sizes, and its logits are compared with those that plain NumPy and torch
make of the same weights (`reference`).
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from loradock.checkpoints.architecture import Architecture
from loradock.engine.adapters.lora import AdapterReader
from loradock.engine.core import Row, SamplingParams, Sequence
from loradock.engine.dtypes import Dtype
from loradock.engine.errors import WrongNumbers
from loradock.engine.kernels.library import kernels
from loradock.engine.kernels.sampling import draw, largest
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.models.lanes import Decoder
from loradock.engine.models.native_decoder import NativeDecoder
from loradock.engine.models.packing import packed
from loradock.engine.models.runner import Runner
from loradock.engine.self_check.reference import Array, Numbers, Reference
from loradock.engine.self_check.small_model import random_adapters, random_weights, small_architecture

log = logging.getLogger(__name__)

_BLOCKS = 64
_FAR = {Dtype.FLOAT32: 1e-4, Dtype.BFLOAT16: 0.15}
"""The largest allowed distance of a row of logits from the reference's (root mean square, in standard deviations of all
logits).

Roundings that fall differently make 0.03 to 0.08 in bfloat16 and 5e-6 in float32. A vector of an attention's values
that was left out made 0.9 to 1.7."""
_MANY_ROWS = (39, 31, 9)
"""Prompts of one step large enough to be divided among the threads."""
_LONG_PROMPT = 230
"""Tokens of a prompt that attends as long chunks do."""
_GREEDY = SamplingParams(temperature=0)
"""The parameters of rows whose largest logit the engine finds without keeping the others."""
_RUNS_OF_ROWS = range(1, 10)
"""Chunks of so many rows, each a step of its own: tiles are as high as that."""


def prove(model: Decoder, threads: int, *, int8_cache: bool = False) -> None:
    """Compute the small model with `model`'s kernels. Raises WrongNumbers where an answer is not the known one."""
    if not isinstance(model, NativeDecoder):
        return
    begun = time.perf_counter()
    worst = _prove_decoder(model, threads, int8_cache)
    _prove_sampling()
    log.info(
        "compiled kernels (%s) proved in %.0f ms: largest difference %.1g of the logits' spread",
        kernels().name.decode(),
        1000 * (time.perf_counter() - begun),
        worst,
    )


@dataclass(frozen=True)
class _Prompt:
    """A sequence of the proof and what each of its positions should give: float32 `[tokens, vocab]`."""

    sequence: Sequence
    expected: Array


def _prove_decoder(model: NativeDecoder, threads: int, int8_cache: bool) -> float:
    small = small_architecture(model.architecture)
    weights = random_weights(small)
    proved = _same_decoder(model, small, weights)
    runner = Runner(proved, KVCache(small, _BLOCKS, model.dtype, int8=int8_cache), threads)
    numbers = Numbers(model.format, model.packed.layout.head_format)
    reference = Reference(small, numbers, weights, *proved.rotary.at(np.arange(small.max_positions)))
    prompts = _prompts(model, small, reference)
    limit, worst = _FAR[Dtype.BFLOAT16 if int8_cache else model.dtype], 0.0
    for rows in _steps(runner, prompts):
        worst = max(worst, _difference(runner, rows, prompts))
        if not worst <= limit:
            raise WrongNumbers(difference=worst, limit=limit)
    return worst


def _same_decoder(model: NativeDecoder, a: Architecture, weights: dict[str, Array]) -> NativeDecoder:
    """The small model in the decoder that `model` is."""
    return NativeDecoder(a, packed(a, weights.__getitem__, model.format))


def _prompts(model: NativeDecoder, a: Architecture, reference: Reference) -> list[_Prompt]:
    """Return a prompt for each of `_MANY_ROWS`, then one for `_RUNS_OF_ROWS`, then the long one."""
    random = np.random.default_rng(1)
    adapters = random_adapters(a, AdapterReader(a, model.dtype))
    lengths = [*(rows + 2 for rows in _MANY_ROWS), sum(_RUNS_OF_ROWS), _LONG_PROMPT]
    # `None` in the middle: rows without an adapter between rows with one.
    chosen = [adapters[0], None, adapters[1], adapters[0], adapters[1]]
    prompts = []
    for number, (length, one) in enumerate(zip(lengths, chosen, strict=True)):
        tokens = [int(token) for token in random.integers(0, a.vocab_size, length)]
        loaded, pairs = one or (None, {})
        params = SamplingParams(prompt_logprobs=0)
        prompts.append(_Prompt(Sequence(number, tokens, params, loaded), reference.logits(tokens, pairs)))
    return prompts


def _steps(runner: Runner, prompts: list[_Prompt]) -> Iterator[list[Row]]:
    """The rows of one step after the other; each is made when those before have been computed."""
    sequences = [prompt.sequence for prompt in prompts]
    for sequence in sequences:
        runner.cache.allocate(sequence, len(sequence))
    *many, runs, long = sequences
    yield [Row(s, count, count) for s, count in zip(many, _MANY_ROWS, strict=True)]
    yield [Row(s, 1, 1) for s in many]
    for sequence in many:
        sequence.params = _GREEDY
    yield [Row(s, 1, 1) for s in many]
    for count in _RUNS_OF_ROWS:
        yield [Row(runs, count, count)]
    yield [Row(long, len(long), len(long))]


def _difference(runner: Runner, rows: list[Row], prompts: list[_Prompt]) -> float:
    """Return the distance of a step's logits from those expected, in standard deviations; infinite where a number is
    not finite.

    Where only the largest logits are found, it is how far the chosen ones are below the largest expected.
    """
    expected = np.concatenate([prompts[r.sequence.id].expected[r.start : r.start + r.count] for r in rows])
    found = runner.step(rows)
    if not all(found.finite):
        return float("inf")
    chosen = np.take_along_axis(expected, np.array(found.best)[:, None], axis=1)[:, 0]
    far = (expected.max(axis=1) - chosen).max() / 4
    if found.parts:
        off = found.values - expected
        if not np.isfinite(off).all():  # a kernel says what is usable: not to be believed here
            return float("inf")
        far = max(far, np.sqrt((off * off).mean(axis=1)).max())
    return float(far / expected.std())


def _prove_sampling() -> None:
    random = np.random.default_rng(3)
    logits = random.standard_normal((3, 1000), np.float32)
    temperatures = np.array([0.5, 1, 2], np.float32)
    uniform = np.array([0.1, 0.5, 0.999], np.float32)
    tokens = draw(logits, temperatures, uniform)
    weights = np.exp((logits - logits.max(axis=1, keepdims=True)).astype(np.float64) / temperatures[:, None])
    sums = weights.cumsum(axis=1) / weights.sum(axis=1, keepdims=True)
    before = np.take_along_axis(sums - weights / weights.sum(axis=1, keepdims=True), tokens[:, None], axis=1)[:, 0]
    after = np.take_along_axis(sums, tokens[:, None], axis=1)[:, 0]
    best, usable = largest(logits)
    right = best.tolist() == logits.argmax(axis=1).tolist() and usable.all()
    logits[1, 7] = np.nan
    told = largest(logits)[1].tolist() == [True, False, True]
    drawn = (before - 1e-4 <= uniform).all() and (uniform <= after + 1e-4).all()
    if not (drawn and right and told):
        raise WrongNumbers(difference=float("inf"), limit=0)
