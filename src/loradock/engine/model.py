"""The decoder: one class for Llama, SmolLM2, Mistral, Qwen2/2.5 and Qwen3, whose differences are settings."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from loradock.checkpoints.architecture import Architecture, read_architecture
from loradock.engine.attention import AttentionBatch
from loradock.engine.lora import AppliedLora
from loradock.engine.weights import TensorReader, tensor_reader


@dataclass
class Layer:
    """A decoder layer's weights, projections that share an input fused."""

    attn_norm: torch.Tensor
    qkv: torch.Tensor
    qkv_bias: torch.Tensor | None
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    o: torch.Tensor
    o_bias: torch.Tensor | None
    mlp_norm: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor


class Decoder:
    """A base model in memory."""

    def __init__(self, architecture: Architecture, read: TensorReader, dtype: torch.dtype, device: str = "cpu") -> None:
        self.architecture, self.dtype, self.device = architecture, dtype, device

        def move(name: str) -> torch.Tensor:
            return read(name).to(device).contiguous()

        self.embedding = move("model.embed_tokens.weight")
        self.norm = move("model.norm.weight")
        self.head = self.embedding if architecture.tie_embeddings else move("lm_head.weight")
        self.layers = [_layer(architecture, read, device, n) for n in range(architecture.layers)]
        self.cos, self.sin = (table.to(device) for table in rotary_tables(architecture))

    def forward(
        self, tokens: torch.Tensor, positions: torch.Tensor, attention: AttentionBatch, lora: AppliedLora | None
    ) -> torch.Tensor:
        """Hidden states `[tokens, hidden]` of the packed tokens of a step."""
        a = self.architecture
        x = F.embedding(tokens, self.embedding)
        cos, sin = (table[positions].unsqueeze(1).to(x.dtype) for table in (self.cos, self.sin))
        for index, layer in enumerate(self.layers):
            h = F.rms_norm(x, (a.hidden_size,), layer.attn_norm, a.norm_eps)
            x = x + self._attend(index, layer, h, cos, sin, attention, lora)
            h = F.rms_norm(x, (a.hidden_size,), layer.mlp_norm, a.norm_eps)
            x = x + self._mlp(index, layer, h, lora)
        return F.rms_norm(x, (a.hidden_size,), self.norm, a.norm_eps)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """float32 `[rows, vocab]`."""
        return F.linear(hidden, self.head).float()

    def _attend(
        self,
        index: int,
        layer: Layer,
        h: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        attention: AttentionBatch,
        lora: AppliedLora | None,
    ) -> torch.Tensor:
        a, count = self.architecture, h.shape[0]
        qkv = _linear(h, layer.qkv, layer.qkv_bias, lora, index, "qkv")
        q, k, v = torch.split(qkv, [a.heads * a.head_dim, a.kv_heads * a.head_dim, a.kv_heads * a.head_dim], dim=1)
        q, k, v = (t.reshape(count, -1, a.head_dim) for t in (q, k, v))
        if layer.q_norm is not None and layer.k_norm is not None:
            q = F.rms_norm(q, (a.head_dim,), layer.q_norm, a.norm_eps)
            k = F.rms_norm(k, (a.head_dim,), layer.k_norm, a.norm_eps)
        out = attention.attend(index, _rotate(q, cos, sin), _rotate(k, cos, sin), v)
        return _linear(out.reshape(count, -1), layer.o, layer.o_bias, lora, index, "o")

    @staticmethod
    def _mlp(index: int, layer: Layer, h: torch.Tensor, lora: AppliedLora | None) -> torch.Tensor:
        gate, up = _linear(h, layer.gate_up, None, lora, index, "gate_up").chunk(2, dim=1)
        return _linear(F.silu(gate) * up, layer.down, None, lora, index, "down")


def load_model(path: Path, dtype: torch.dtype, device: str = "cpu") -> Decoder:
    """Raises BadRequest when the checkpoint is incomplete or of an unsupported kind."""
    architecture = read_architecture(path)
    return Decoder(architecture, tensor_reader(path, architecture, dtype), dtype, device)


def _linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, lora: AppliedLora | None, layer: int, group: str
) -> torch.Tensor:
    out = F.linear(x, weight, bias)
    if lora is not None:
        lora.apply(layer, group, x, out)
    return out


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def _layer(a: Architecture, read: TensorReader, device: str, index: int) -> Layer:
    def weight(name: str, kind: str = "weight") -> torch.Tensor:
        return read(f"model.layers.{index}.{name}.{kind}").to(device)

    def attention(names: str, kind: str = "weight") -> torch.Tensor:
        return torch.cat([weight(f"self_attn.{name}_proj", kind) for name in names])

    return Layer(
        attn_norm=weight("input_layernorm"),
        qkv=attention("qkv"),
        qkv_bias=attention("qkv", "bias") if a.qkv_bias else None,
        q_norm=weight("self_attn.q_norm") if a.qk_norm else None,
        k_norm=weight("self_attn.k_norm") if a.qk_norm else None,
        o=weight("self_attn.o_proj").contiguous(),
        o_bias=weight("self_attn.o_proj", "bias") if a.output_bias else None,
        mlp_norm=weight("post_attention_layernorm"),
        gate_up=torch.cat([weight("mlp.gate_proj"), weight("mlp.up_proj")]),
        down=weight("mlp.down_proj").contiguous(),
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
