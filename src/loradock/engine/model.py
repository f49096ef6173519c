"""The decoder: one class for Llama, SmolLM2, Mistral, Qwen2/2.5 and Qwen3, whose differences are settings."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from loradock.checkpoints.architecture import Architecture, read_architecture
from loradock.engine.attention import AttentionBatch
from loradock.engine.elementwise import Elementwise, KernelElementwise, TorchElementwise
from loradock.engine.linear import Linear
from loradock.engine.mixing import AppliedLora
from loradock.engine.weights import TensorReader, tensor_reader


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
        self.architecture, self.dtype, self.device, self.kernels = architecture, dtype, device, kernels
        self._elementwise: Elementwise = KernelElementwise(dtype) if kernels else TorchElementwise()

        def move(name: str) -> torch.Tensor:
            return read(name).to(device).contiguous()

        self.embedding = move("model.embed_tokens.weight")
        self.norm = move("model.norm.weight")
        self.head = Linear(self.embedding if architecture.tie_embeddings else move("lm_head.weight"))
        self.layers = [_layer(architecture, move, n) for n in range(architecture.layers)]
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


def load_model(path: Path, dtype: torch.dtype, device: str = "cpu", *, kernels: bool | None = None) -> Decoder:
    """`kernels` None: on a CPU. Raises BadRequest when the checkpoint is incomplete or of an unsupported kind."""
    architecture = read_architecture(path)
    if kernels is None:
        kernels = torch.device(device).type == "cpu" and architecture.head_dim % 16 == 0
    return Decoder(architecture, tensor_reader(path, architecture, dtype), dtype, device, kernels=kernels)


def _apply(x: torch.Tensor, linear: Linear, lora: AppliedLora | None, layer: int, group: str) -> torch.Tensor:
    out = linear(x)
    if lora is not None:
        lora.apply(layer, group, x, out)
    return out


def _layer(a: Architecture, read: TensorReader, index: int) -> Layer:
    def weight(name: str, kind: str = "weight") -> torch.Tensor:
        return read(f"model.layers.{index}.{name}.{kind}")

    def attention(names: str, kind: str = "weight") -> torch.Tensor:
        return torch.cat([weight(f"self_attn.{name}_proj", kind) for name in names])

    return Layer(
        attn_norm=weight("input_layernorm"),
        qkv=Linear(attention("qkv"), attention("qkv", "bias") if a.qkv_bias else None),
        q_norm=weight("self_attn.q_norm") if a.qk_norm else None,
        k_norm=weight("self_attn.k_norm") if a.qk_norm else None,
        o=Linear(attention("o"), attention("o", "bias") if a.output_bias else None),
        mlp_norm=weight("post_attention_layernorm"),
        gate_up=Linear(torch.cat([weight("mlp.gate_proj"), weight("mlp.up_proj")])),
        down=Linear(weight("mlp.down_proj")),
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
