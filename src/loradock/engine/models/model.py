"""The decoder: one class for Llama, SmolLM2, Mistral, Qwen2/2.5 and Qwen3, whose differences are settings."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from loradock.checkpoints.architecture import Architecture
from loradock.engine.adapters.multi_lora import AppliedLora
from loradock.engine.kernels.elementwise import Elementwise, KernelElementwise, TorchElementwise
from loradock.engine.models.attention import AttentionBatch
from loradock.engine.models.linear import Linear
from loradock.engine.models.weights import TensorReader


@dataclass
class Layer:
    """A decoder layer's weights, projections that share an input fused."""

    attn_norm: torch.Tensor
    qkv: Linear
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    o: Linear
    mlp_norm: torch.Tensor
    gate_up: Linear
    down: Linear


class Decoder:
    """A base model in memory. `kernels`: whether the compiled kernels are used; they are for CPUs."""

    def __init__(
        self,
        architecture: Architecture,
        read: TensorReader,
        dtype: torch.dtype,
        device: str = "cpu",
        *,
        kernels: bool = False,
    ) -> None:
        self.architecture = architecture
        self.dtype = dtype
        self.device = device
        self.kernels = kernels
        self._elementwise: Elementwise = KernelElementwise(dtype) if kernels else TorchElementwise()

        def linear(weight: torch.Tensor, bias: torch.Tensor | None = None) -> Linear:
            bias = None if bias is None else bias.to(device, dtype)
            return Linear(weight.to(device, dtype).contiguous(), bias)

        def vector(name: str) -> torch.Tensor:
            return read(name).to(device, dtype).contiguous()

        embedding = read("model.embed_tokens.weight")
        self.embedding = embedding.to(device, dtype).contiguous()
        self.norm = vector("model.norm.weight")
        self.head = linear(embedding if architecture.tie_embeddings else read("lm_head.weight"))
        del embedding
        self.layers = [_layer(architecture, read, vector, linear, n) for n in range(architecture.layers)]
        self.cos, self.sin = (table.to(device) for table in rotary_tables(architecture))

    def forward(self, tokens: torch.Tensor, attention: AttentionBatch, lora: AppliedLora | None) -> torch.Tensor:
        """Hidden states `[tokens, hidden]` of the packed tokens of a step."""
        eps, add_norm = self.architecture.norm_eps, self._elementwise.add_norm
        x = F.embedding(tokens, self.embedding)
        delta = None
        for index, layer in enumerate(self.layers):
            h = add_norm(x, delta, layer.attn_norm, eps)
            delta = self._attend(index, layer, h, attention, lora)
            h = add_norm(x, delta, layer.mlp_norm, eps)
            delta = self._mlp(index, layer, h, lora)
        return add_norm(x, delta, self.norm, eps)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[rows, vocab]`, in the model's type."""
        return self.head(hidden)

    def _attend(
        self, index: int, layer: Layer, h: torch.Tensor, attention: AttentionBatch, lora: AppliedLora | None
    ) -> torch.Tensor:
        a = self.architecture
        qkv = _apply(h, layer.qkv, lora, index, "qkv")
        if layer.q_norm is not None and layer.k_norm is not None:
            heads = qkv.view(len(h), -1, a.head_dim)
            for part, weight in ((heads[:, : a.heads], layer.q_norm), (heads[:, a.heads : -a.kv_heads], layer.k_norm)):
                part.copy_(F.rms_norm(part, (a.head_dim,), weight, a.norm_eps))
        return _apply(attention.attend(index, qkv), layer.o, lora, index, "o")

    def _mlp(self, index: int, layer: Layer, h: torch.Tensor, lora: AppliedLora | None) -> torch.Tensor:
        gate_up = _apply(h, layer.gate_up, lora, index, "gate_up")
        return _apply(self._elementwise.silu_multiply(gate_up), layer.down, lora, index, "down")


def _apply(x: torch.Tensor, linear: Linear, lora: AppliedLora | None, layer: int, group: str) -> torch.Tensor:
    out = linear(x)
    if lora is not None:
        lora.apply(layer, group, x, out)
    return out


def _layer(
    a: Architecture, read: TensorReader, vector: TensorReader, linear: Callable[..., Linear], index: int
) -> Layer:
    prefix = f"model.layers.{index}."

    def attention(names: str, kind: str = "weight") -> torch.Tensor:
        return torch.cat([read(f"{prefix}self_attn.{name}_proj.{kind}") for name in names])

    def mlp(*names: str) -> torch.Tensor:
        return torch.cat([read(f"{prefix}mlp.{name}_proj.weight") for name in names])

    return Layer(
        attn_norm=vector(f"{prefix}input_layernorm.weight"),
        qkv=linear(attention("qkv"), attention("qkv", "bias") if a.qkv_bias else None),
        q_norm=vector(f"{prefix}self_attn.q_norm.weight") if a.qk_norm else None,
        k_norm=vector(f"{prefix}self_attn.k_norm.weight") if a.qk_norm else None,
        o=linear(attention("o"), attention("o", "bias") if a.output_bias else None),
        mlp_norm=vector(f"{prefix}post_attention_layernorm.weight"),
        gate_up=linear(mlp("gate", "up")),
        down=linear(mlp("down")),
    )


def rotary_tables(a: Architecture) -> tuple[torch.Tensor, torch.Tensor]:
    """(cos, sin), float32 `[max_positions, head_dim]`."""
    inverse = 1.0 / a.rope_theta ** (torch.arange(0, a.head_dim, 2, dtype=torch.float32) / a.head_dim)
    inverse = _scale_rotary(inverse, a.rope_scaling or {})
    angles = torch.outer(torch.arange(a.max_positions, dtype=torch.float32), inverse)
    angles = torch.cat((angles, angles), dim=1)
    return angles.cos(), angles.sin()


def _scale_rotary(inverse: torch.Tensor, scaling: dict[str, Any]) -> torch.Tensor:
    """Linear and Llama 3 scaling as in transformers' modeling_rope_utils; ready-made divisors as in llama.cpp."""
    if not scaling:
        return inverse
    if scaling["rope_type"] == "factors":
        return inverse / torch.tensor(scaling["factors"])
    factor = float(scaling["factor"])
    if scaling["rope_type"] == "linear":
        return inverse / factor
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    length = float(scaling["original_max_position_embeddings"])
    wavelength = 2 * math.pi / inverse
    smooth = ((length / wavelength - low) / (high - low)).clamp(0, 1)
    return (1 - smooth) * inverse / factor + smooth * inverse
