"""The shape of a decoder: what the engine, the memory plan and the checks of adapters need to know of a checkpoint."""

from dataclasses import dataclass, field
from typing import Any

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True)
class Architecture:
    """A decoder's shape. Sizes are element counts; `rope_scaling` is transformers' dictionary or None;
    its type `factors`, of GGUF files alone, lists what each frequency is divided by."""

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    rope_theta: float
    norm_eps: float
    max_positions: int
    rope_scaling: dict[str, Any] | None = None
    tie_embeddings: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False
    sliding_window: int | None = None
    name: str | None = field(default=None, compare=False)

    def linears(self) -> dict[str, tuple[int, int]]:
        """Projection name → (out, in), the same in every layer."""
        q, kv, hidden, mlp = (
            self.heads * self.head_dim,
            self.kv_heads * self.head_dim,
            self.hidden_size,
            self.intermediate_size,
        )
        return {
            "q_proj": (q, hidden),
            "k_proj": (kv, hidden),
            "v_proj": (kv, hidden),
            "o_proj": (hidden, q),
            "gate_proj": (mlp, hidden),
            "up_proj": (mlp, hidden),
            "down_proj": (hidden, mlp),
        }

    @staticmethod
    def module_path(layer: int, name: str) -> str:
        """The Hugging Face module path of a projection."""
        return f"model.layers.{layer}.{'self_attn' if name in _ATTENTION else 'mlp'}.{name}"
