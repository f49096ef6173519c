"""Computes a small model's logits without any kernel of ours: the known answer for `proof`.

Products round what goes into them as the kernels do (bfloat16, or bytes by groups of 32), so that what is left of a
difference is the order of additions.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from loradock.checkpoints.architecture import Architecture
from loradock.engine.kernels.structures import Format

Array = np.ndarray[Any, Any]
_GROUP = 32


class LowRank(NamedTuple):
    """An adapter's change of one projection: A float32 `[rank, in]`, B float32 `[out, rank]`, scale 1."""

    down: Array
    up: Array


class Numbers(NamedTuple):
    """How the weights of layers and of the head are kept."""

    bits: Format
    head_bits: Format

    @property
    def short(self) -> Format:
        """How what is never quantized is kept: the cache, adapters, an embedding of its own."""
        return max(Format.CODED, self.bits)


class Reference:
    """A decoder in float32. `cos`, `sin` float32 `[positions, head_dim]`."""

    def __init__(self, a: Architecture, numbers: Numbers, weights: Mapping[str, Array], cos: Array, sin: Array) -> None:
        self._a = a
        self._numbers = numbers
        self._cos = cos
        self._sin = sin
        embedding = weights["model.embed_tokens.weight"]
        head = "model.embed_tokens.weight" if a.tie_embeddings else "lm_head.weight"
        self._weights = {
            name: kept_in(values, numbers.bits) if values.ndim == 2 else values for name, values in weights.items()
        }
        self._head = kept_in(weights[head], numbers.head_bits)
        self._embedding = self._head if a.tie_embeddings else kept_in(embedding, numbers.short)

    def logits(self, tokens: list[int], adapter: Mapping[tuple[int, str], LowRank]) -> Array:
        """Float32 `[tokens, vocab]` of one sequence."""
        x = self._embedding[tokens]
        for layer in range(self._a.layers):
            x = x + self._attention(layer, self._norm(x, f"model.layers.{layer}.input_layernorm"), adapter)
            x = x + self._mlp(layer, self._norm(x, f"model.layers.{layer}.post_attention_layernorm"), adapter)
        return _times(self._rounded(self._norm(x, "model.norm"), self._numbers.head_bits), self._head)

    def _norm(self, x: Array, name: str) -> Array:
        scale = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + np.float32(self._a.norm_eps))
        normed: Array = x * scale * self._weights[f"{name}.weight"]
        return normed

    def _product(self, layer: int, name: str, x: Array, adapter: Mapping[tuple[int, str], LowRank]) -> Array:
        path, bits = self._a.module_path(layer, name), self._numbers.bits
        out = _times(self._rounded(x, bits), self._weights[f"{path}.weight"])
        if f"{path}.bias" in self._weights:
            out = out + self._weights[f"{path}.bias"]
        if (layer, name) in adapter:
            down, up = (kept_in(part, self._numbers.short) for part in adapter[layer, name])
            out = out + _times(_times(self._rounded(x, self._numbers.short), down), up)
        return out

    def _attention(self, layer: int, x: Array, adapter: Mapping[tuple[int, str], LowRank]) -> Array:
        a, count = self._a, len(x)
        q, k, v = (self._product(layer, f"{name}_proj", x, adapter).reshape(count, -1, a.head_dim) for name in "qkv")
        if a.qk_norm:
            q = self._norm(q, f"model.layers.{layer}.self_attn.q_norm")
            k = self._norm(k, f"model.layers.{layer}.self_attn.k_norm")
        q, k = (self._short(self._rotated(self._short(part))) for part in (q, k))
        v = self._short(v)
        group = a.heads // a.kv_heads
        q, k, v = (part.transpose(1, 0, 2) for part in (q, np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)))
        scores = _times(q, k) / np.float32(np.sqrt(a.head_dim))
        far = np.subtract.outer(np.arange(count), np.arange(count))
        hidden = (far < 0) | (far >= a.sliding_window if a.sliding_window else False)
        scores = np.where(hidden, np.float32(-np.inf), scores)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        attended = _times(weights, v.transpose(0, 2, 1)).transpose(1, 0, 2).reshape(count, -1)
        return self._product(layer, "o_proj", self._short(attended), adapter)

    def _rotated(self, heads: Array) -> Array:
        half = heads.shape[-1] // 2
        turned = np.concatenate((-heads[..., half:], heads[..., :half]), axis=-1)
        cos, sin = self._cos[: len(heads), None], self._sin[: len(heads), None]
        rotated: Array = heads * cos + turned * sin
        return rotated

    def _mlp(self, layer: int, x: Array, adapter: Mapping[tuple[int, str], LowRank]) -> Array:
        gate, up = (self._product(layer, f"{name}_proj", x, adapter) for name in ("gate", "up"))
        return self._product(layer, "down_proj", gate / (1 + np.exp(-gate)) * up, adapter)

    def _short(self, x: Array) -> Array:
        return self._rounded(x, self._numbers.short)

    def _rounded(self, x: Array, bits: Format) -> Array:
        """Return a product's input, rounded as the product reads it."""
        if bits is Format.FLOAT32:
            return x
        return as_bfloat16(x) if bits >= Format.CODED else _in_bytes(x)


def _times(x: Array, weight: Array) -> Array:
    """`x` times the transpose of `weight`."""
    product: Array = x @ weight.swapaxes(-1, -2)
    return product


def as_bfloat16(x: Array) -> Array:
    """Rounded to the nearest, ties to even, and given as float32."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)


def kept_in(weight: Array, bits: Format) -> Array:
    """The weight `[out, in]` that its packed form stands for."""
    if bits is Format.FLOAT32:
        return weight
    if bits >= Format.CODED:
        return as_bfloat16(weight)
    groups = weight.reshape(len(weight), -1, _GROUP)
    if bits is Format.INT8:
        scales = _half(np.abs(groups).max(axis=2, keepdims=True) / np.float32(127))
        return (np.rint(groups / scales) * scales).reshape(weight.shape)
    low = groups.min(axis=2, keepdims=True)
    scales = _half((groups.max(axis=2, keepdims=True) - low) / np.float32(15))
    low = _half(low)
    return (np.rint((groups - low) / scales).clip(0, 15) * scales + low).reshape(weight.shape)


def _half(x: Array) -> Array:
    """Round to float16, as the scales are kept."""
    return x.astype(np.float16).astype(np.float32)


def _in_bytes(x: Array) -> Array:
    groups = x.reshape(len(x), -1, _GROUP)
    largest = np.abs(groups).max(axis=2, keepdims=True)
    largest = np.where(largest > 0, largest, np.float32(1))
    return (np.rint(groups * (np.float32(127) / largest)) * (largest / np.float32(127))).reshape(x.shape)
