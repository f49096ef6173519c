"""The decoder in torch, for other devices and for shapes that the kernels do not take: one class for Llama, SmolLM2,
Mistral, Qwen2/2.5 and Qwen3, whose differences are settings."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from loradock.checkpoints.architecture import Architecture
from loradock.engine.dtypes import Dtype
from loradock.engine.models.rotary import Rotary
from loradock.engine.models.weights import TensorReader
from loradock.engine.torch_models.attention import AttentionBatch
from loradock.engine.torch_models.linear import Linear
from loradock.engine.torch_models.lora import AppliedLora
from loradock.engine.torch_models.tensors import as_tensor, torch_dtype

TorchReader = Callable[[str], torch.Tensor]


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


class TorchDecoder:
    """A base model in memory."""

    kernels = False

    def __init__(self, architecture: Architecture, read: TensorReader, dtype: Dtype, device: str = "cpu") -> None:
        self.architecture = architecture
        self.dtype = dtype
        self.device = device
        self.torch_dtype = torch_dtype(dtype)

        def tensor(name: str) -> torch.Tensor:
            return as_tensor(read(name)).to(device, self.torch_dtype).contiguous()

        def linear(weight: torch.Tensor, bias: torch.Tensor | None = None) -> Linear:
            return Linear(weight, bias)

        self.embedding = tensor("model.embed_tokens.weight")
        self.norm = tensor("model.norm.weight")
        self.head = linear(self.embedding if architecture.tie_embeddings else tensor("lm_head.weight"))
        self.layers = [_layer(architecture, tensor, linear, n) for n in range(architecture.layers)]
        self.rotary = Rotary(architecture)

    def forward(self, tokens: torch.Tensor, attention: AttentionBatch, lora: AppliedLora | None) -> torch.Tensor:
        """Hidden states `[tokens, hidden]` of the packed tokens of a step."""
        eps = self.architecture.norm_eps
        x = F.embedding(tokens, self.embedding)
        delta = None
        for index, layer in enumerate(self.layers):
            h = _add_norm(x, delta, layer.attn_norm, eps)
            delta = self._attend(index, layer, h, attention, lora)
            h = _add_norm(x, delta, layer.mlp_norm, eps)
            delta = self._mlp(index, layer, h, lora)
        return _add_norm(x, delta, self.norm, eps)

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
        return _apply(_silu_multiply(gate_up), layer.down, lora, index, "down")


def _apply(x: torch.Tensor, linear: Linear, lora: AppliedLora | None, layer: int, group: str) -> torch.Tensor:
    out = linear(x)
    if lora is not None:
        lora.apply(layer, group, x, out)
    return out


def _add_norm(x: torch.Tensor, delta: torch.Tensor | None, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x += delta, in place; then its rms norm times `weight`."""
    if delta is not None:
        x += delta
    return F.rms_norm(x, (x.shape[1],), weight, eps)


def _silu_multiply(gate_up: torch.Tensor) -> torch.Tensor:
    gate, up = gate_up.chunk(2, dim=1)
    return F.silu(gate) * up


def _layer(a: Architecture, read: TorchReader, linear: Callable[..., Linear], index: int) -> Layer:
    prefix = f"model.layers.{index}."

    def attention(names: str, kind: str = "weight") -> torch.Tensor:
        return torch.cat([read(f"{prefix}self_attn.{name}_proj.{kind}") for name in names])

    def mlp(*names: str) -> torch.Tensor:
        return torch.cat([read(f"{prefix}mlp.{name}_proj.weight") for name in names])

    return Layer(
        attn_norm=read(f"{prefix}input_layernorm.weight"),
        qkv=linear(attention("qkv"), attention("qkv", "bias") if a.qkv_bias else None),
        q_norm=read(f"{prefix}self_attn.q_norm.weight") if a.qk_norm else None,
        k_norm=read(f"{prefix}self_attn.k_norm.weight") if a.qk_norm else None,
        o=linear(attention("o"), attention("o", "bias") if a.output_bias else None),
        mlp_norm=read(f"{prefix}post_attention_layernorm.weight"),
        gate_up=linear(mlp("gate", "up")),
        down=linear(mlp("down")),
    )
