"""The shapes of models. All of them have SmolLM2's tokenizer and its 49,152 tokens, tied to the head."""

from dataclasses import dataclass

VOCABULARY = 49152


@dataclass(frozen=True)
class Model:
    """`context`: the most tokens of a sequence. `random`: weights made here and not trained."""

    name: str
    title: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    feed_forward: int
    context: int = 32768
    rope_theta: float = 500_000.0
    random: bool = True

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """(in, out) of each linear layer."""
        attention, keys = self.heads * self.head, self.kv_heads * self.head
        return {
            "self_attn.q_proj": (self.hidden, attention),
            "self_attn.k_proj": (self.hidden, keys),
            "self_attn.v_proj": (self.hidden, keys),
            "self_attn.o_proj": (attention, self.hidden),
            "mlp.gate_proj": (self.hidden, self.feed_forward),
            "mlp.up_proj": (self.hidden, self.feed_forward),
            "mlp.down_proj": (self.feed_forward, self.hidden),
        }

    @property
    def parameters(self) -> int:
        a_layer = sum(inputs * outputs for inputs, outputs in self.projections.values()) + 2 * self.hidden
        return self.layers * a_layer + (VOCABULARY + 1) * self.hidden

    @property
    def kv_bytes(self) -> int:
        """Of one token's keys and values in 16 bits."""
        return 2 * self.layers * self.kv_heads * self.head * 2


SMOLLM2 = Model("135m", "SmolLM2-135M", 576, 30, 9, 3, 64, 1536, 8192, 100_000.0, random=False)
MODELS = {
    model.name: model
    for model in (
        SMOLLM2,
        Model("0.5b", "shape of Qwen2.5-0.5B", 896, 24, 14, 2, 64, 4864),
        Model("1b", "shape of Llama-3.2-1B", 2048, 16, 32, 8, 64, 8192),
        Model("3b", "shape of Llama-3.2-3B", 3072, 28, 24, 8, 128, 8192),
    )
}
