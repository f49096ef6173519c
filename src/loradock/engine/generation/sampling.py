"""Sampling: chooses tokens from logits, for a whole batch of differently configured rows."""

import numpy as np
import torch

from loradock.engine.core import SamplingParams, Sequence
from loradock.engine.errors import NothingLeft
from loradock.engine.generation.penalties import Penalties

_CANDIDATES = 256
_COLDEST = 1e-5
"""Divided by less, logits leave float32; this is cold enough for the largest alone to be drawn."""


class Sampler:
    """Holds each sequence's random numbers, so that a seed gives the same draws whoever shares the batch."""

    def __init__(self) -> None:
        self._random: dict[int, np.random.Generator] = {}
        self._penalties: dict[int, Penalties] = {}
        self._biases: dict[int, _Biases] = {}

    def forget(self, sequence: Sequence) -> None:
        self._random.pop(sequence.id, None)
        self._penalties.pop(sequence.id, None)
        self._biases.pop(id(sequence.params.logit_bias), None)

    def penalize(self, logits: torch.Tensor, sequence: Sequence) -> None:
        """Change a row `[vocab]` in place by the sequence's penalties and biases."""
        params = sequence.params
        if params.repetition_penalty != 1 or params.presence_penalty or params.frequency_penalty:
            if sequence.id not in self._penalties:
                self._penalties[sequence.id] = Penalties(sequence, logits)
            self._penalties[sequence.id].apply(logits)
        if params.logit_bias:
            # Of all choices of a request it is the same object; of a whole vocabulary it takes a while to read.
            biases = self._biases.get(id(params.logit_bias))
            if biases is None:
                biases = self._biases[id(params.logit_bias)] = _Biases(params.logit_bias, logits.device)
            logits[biases.tokens] += biases.values

    def sample(self, logits: torch.Tensor, sequences: list[Sequence], chances: list[float]) -> list[int]:
        """Return one token per row of float32 `[rows, vocab]`; the row's largest logit where temperature is 0. Raises
        NothingLeft when some row has no token with a finite logit to choose.
        """
        tokens = logits.argmax(dim=-1)
        if not bool(torch.isfinite(logits.gather(1, tokens.unsqueeze(1))).all()):
            raise NothingLeft
        drawn = [i for i, sequence in enumerate(sequences) if sequence.params.temperature > 0]
        if drawn:
            params = [sequences[i].params for i in drawn]
            uniform = torch.tensor([chances[i] for i in drawn], device=logits.device)
            temperatures = torch.tensor([max(float(p.temperature), _COLDEST) for p in params], device=logits.device)
            tokens[drawn] = _draw(logits[drawn], temperatures, params, uniform)
        return [int(token) for token in tokens.tolist()]

    def chance(self, sequence: Sequence) -> float:
        """Return the random number from 0 to 1 that the sequence's next token is drawn by."""
        if sequence.params.temperature == 0:
            return 0.0
        if sequence.id not in self._random:
            seed = sequence.params.seed
            self._random[sequence.id] = np.random.default_rng(None if seed is None else seed % 2**64)
        return float(self._random[sequence.id].random())


class _Biases:
    """A request's `logit_bias` as tensors. `given` is kept, so that no other object takes its place in memory."""

    def __init__(self, given: dict[int, float], device: torch.device) -> None:
        self.given = given
        self.tokens = torch.from_numpy(np.fromiter(given, np.int64, len(given))).to(device)
        self.values = torch.from_numpy(np.fromiter(given.values(), np.float32, len(given))).to(device)


def largest(logits: torch.Tensor) -> tuple[list[int], list[bool]]:
    """Return for each row `[vocab]` the token with the largest logit, and whether the row can be used: it has no NaN,
    and that logit is finite.
    """
    if logits.dtype is torch.bfloat16 and logits.device.type == "cpu":
        from loradock.engine.kernels import sampling_kernels as kernels

        tokens, finite = torch.empty(len(logits), dtype=torch.long), torch.empty(len(logits), dtype=torch.bool)
        logits = logits.contiguous()
        kernels.largest_bfloat16(logits.data_ptr(), tokens.data_ptr(), finite.data_ptr(), *logits.shape)
        return tokens.tolist(), finite.tolist()
    best = logits.argmax(dim=-1, keepdim=True)
    finite = torch.isfinite(logits.gather(1, best))
    return best.squeeze(1).tolist(), finite.squeeze(1).tolist()


def _draw(
    logits: torch.Tensor, temperatures: torch.Tensor, params: list[SamplingParams], uniform: torch.Tensor
) -> torch.Tensor:
    """Tokens `[rows]` by inverting each row's cumulative distribution at `uniform`."""
    tokens = torch.empty(len(params), dtype=torch.long, device=logits.device)
    cut = [i for i, p in enumerate(params) if p.top_k > 0 or p.top_p < 1 or p.min_p > 0]
    whole = sorted(set(range(len(params))) - set(cut))
    if whole:
        tokens[whole] = _draw_whole(logits[whole], temperatures[whole], uniform[whole])
    if cut:
        scaled = logits[cut] / temperatures[cut].unsqueeze(1)
        tokens[cut] = _draw_cut(scaled, [params[i] for i in cut], uniform[cut])
    return tokens


def _draw_whole(logits: torch.Tensor, temperatures: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    if logits.device.type != "cpu":
        return _invert(torch.softmax(logits / temperatures.unsqueeze(1), dim=-1), uniform)
    from loradock.engine.kernels import sampling_kernels

    tokens = torch.empty(len(logits), dtype=torch.long)
    addresses = [tensor.data_ptr() for tensor in (logits, temperatures, uniform, tokens)]
    sampling_kernels.draw(*addresses, *logits.shape)
    return tokens


def _draw_cut(logits: torch.Tensor, params: list[SamplingParams], uniform: torch.Tensor) -> torch.Tensor:
    """Draw, sorting only the likeliest candidates; rows whose cut may lie beyond them are sorted whole."""
    width = min(logits.shape[-1], max(_CANDIDATES, *(p.top_k for p in params)))
    values, ids = torch.topk(logits, width)
    probabilities = torch.exp(values - torch.logsumexp(logits, dim=-1, keepdim=True))
    kept, complete = _truncate(probabilities, params)
    tokens = ids.gather(1, _invert(kept, uniform).unsqueeze(1)).squeeze(1)
    beyond = [i for i, done in enumerate(complete.tolist()) if not done] if width < logits.shape[-1] else []
    for i in beyond:
        order = torch.sort(logits[i : i + 1], descending=True)
        kept, _ = _truncate(torch.softmax(order.values, dim=-1), [params[i]])
        tokens[i] = order.indices[0, _invert(kept, uniform[i : i + 1])[0]]
    return tokens


def _truncate(p: torch.Tensor, params: list[SamplingParams]) -> tuple[torch.Tensor, torch.Tensor]:
    """Descending probabilities `[rows, width]` after top_k, top_p and min_p; which rows need no more than `width`."""
    device, width = p.device, p.shape[-1]
    top_k = torch.tensor([x.top_k if x.top_k > 0 else 2**31 for x in params], device=device).unsqueeze(1)
    top_p = torch.tensor([x.top_p for x in params], device=device).unsqueeze(1)
    min_p = torch.tensor([x.min_p for x in params], device=device).unsqueeze(1) * p[:, :1]
    p = p * (torch.arange(width, device=device) < top_k)
    p = torch.where(top_k <= width, p / p.sum(dim=-1, keepdim=True), p)
    before = p.cumsum(dim=-1) - p
    keep = (before < top_p) & (p >= min_p)
    keep[:, 0] = True
    complete = (top_k <= width) | (before[:, -1:] >= top_p) | (p[:, -1:] < min_p)
    return p * keep, complete.squeeze(1)


def _invert(p: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Indices `[rows]` drawn from unnormalised probabilities `[rows, width]`."""
    cumulative = p.double().cumsum(dim=-1)
    target = uniform.double().unsqueeze(1) * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, target, right=True).squeeze(1)
    # Rounding may put the target on the very end, where no probability is left.
    last = (p > 0).double().cumsum(dim=-1).argmax(dim=-1)
    return torch.minimum(index, last)
