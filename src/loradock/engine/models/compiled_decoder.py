"""The decoder on a CPU: weights packed for the tiles, and steps that run compiled from the embedding to the logits."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from loradock.checkpoints.architecture import Architecture
from loradock.engine.kernels.compiled import layers, packing, products
from loradock.engine.kernels.compiled.argmax import SHARE
from loradock.engine.kernels.compiled.memory import aligned
from loradock.engine.kernels.compiled.simd import LANES, LINE, LOOKS_UP
from loradock.engine.kernels.compiled.tiles import GROUP
from loradock.engine.models.model import rotary_tables
from loradock.engine.models.weights import TensorReader
from loradock.machine.share import usable_processors
from loradock.types.errors import BadRequest

HEAD_BITS = 8
"""The bits of the head's weights: in 4 bits the head alone would cost most of the accuracy."""
_MEMORY = 4 * 2**30
"""Bytes that packing may take meanwhile."""


class CompiledDecoder:
    """A base model in memory. `bits` 16: bfloat16; 8 and 4: that is all that is kept of the weights.

    Raises BadRequest for tensors of other shapes than the configuration says, Unpackable where weights do not fit.
    """

    kernels, device, dtype = True, "cpu", torch.bfloat16

    def __init__(self, architecture: Architecture, read: TensorReader, bits: int = 16) -> None:
        self.architecture = architecture
        self._read = read
        a, head_bits = architecture, 16 if bits == 16 else HEAD_BITS
        self._kept: list[np.ndarray] = []
        self._bits = bits, head_bits
        embedding = self._tensor("model.embed_tokens.weight", a.vocab_size, a.hidden_size)
        head = embedding if a.tie_embeddings else self._tensor("lm_head.weight", a.vocab_size, a.hidden_size)
        own_embedding = 0 if a.tie_embeddings else embedding.numel() * 2 + LINE
        self._arena = packing.Arena(_bytes_of_head(a, head_bits) + a.layers * _bytes_of_layer(a, bits) + own_embedding)
        packed_head, packed_layers = self._pack(head)
        self.cos, self.sin = rotary_tables(a)
        self.kinds = products.KINDS[bits], products.KINDS[head_bits]
        self.plan = layers.Model(
            products=np.array(packed_layers),
            head=np.array(packed_head),
            norms=np.array([self._norms(n) for n in range(a.layers)]),
            last_norm=self._vector("model.norm.weight", a.hidden_size),
            shape=np.zeros(5, np.int64),
            embedding=0 if a.tie_embeddings else self._arena.keep(embedding.bfloat16()),
            eps=a.norm_eps,
        )
        shape = (a.heads, a.kv_heads, a.head_dim, a.sliding_window or 0)
        self.plan.shape[: len(shape)] = shape
        # It holds the checkpoint in memory.
        del self._read

    @property
    def bits(self) -> int:
        """The number of bits in which the layers' weights are kept."""
        return self._bits[0]

    def scratch(self, members: int) -> list[layers.Scratch]:
        """Room for one lane, as each of its members sees it."""
        a, rows = self.architecture, layers.CHUNK
        deep = max(a.hidden_size, a.heads * a.head_dim, a.intermediate_size)
        wide = max(2 * a.intermediate_size, (a.heads + 2 * a.kv_heads) * a.head_dim)
        tiled = max(products.TILED_BYTES[bits] for bits in self._bits) * deep
        strides = [-(-size // LINE) * LINE for size in (2 * deep, tiled, 2 * (deep // GROUP) * 4)]
        places = [aligned(rows * stride, np.uint8) for stride in strides]
        lines = [n for place, stride in zip(places, strides, strict=True) for n in (place.ctypes.data, stride)]
        unpacked = [aligned(2 * deep * LANES * 2, np.uint8) for _ in range(members)]
        self._kept += [*places, *unpacked]
        shared = [
            aligned((rows, wide), np.float32),
            aligned((rows, 0), np.float32),
            aligned((members, rows, 2), np.float32),
            aligned((members, rows), np.int64),
        ]
        group = a.heads // a.kv_heads
        own = ((deep,), (group, 0), (2, group, a.head_dim), (rows, SHARE))
        return [
            layers.Scratch(
                np.array([*lines, room.ctypes.data]), *shared, *(aligned(shape, np.float32) for shape in own)
            )
            for room in unpacked
        ]

    def _pack(self, head: torch.Tensor) -> tuple[list[int], list[list[list[int]]]]:
        """The lines of the head and of each layer's products, by all processors."""
        a, (bits, head_bits) = self.architecture, self._bits
        head_room = self._arena.part(_bytes_of_head(a, head_bits))
        rooms = [self._arena.part(_bytes_of_layer(a, bits)) for _ in range(a.layers)]

        def pack(index: int) -> list[list[int]]:
            return [packing.pack(rooms[index], *part) for part in self._layer(index, rooms[index])]

        with ThreadPoolExecutor(_at_once(a), "pack", initializer=lambda: torch.set_num_threads(1)) as threads:
            packed_head = threads.submit(packing.pack, head_room, head, head_bits)
            packed_layers = list(threads.map(pack, range(a.layers)))
            return packed_head.result(), packed_layers

    def _layer(self, index: int, room: packing.Arena) -> Iterator[tuple[torch.Tensor, int, int]]:
        """(weight, bits, address of the bias in `room`) of a layer's products, those that share an input fused."""
        a, bits, prefix = self.architecture, self._bits[0], f"model.layers.{index}."

        def weight(block: str, *names: str) -> torch.Tensor:
            shapes = [a.linears()[f"{name}_proj"] for name in names]
            parts = [f"{prefix}{block}.{name}_proj.weight" for name in names]
            return torch.cat([self._tensor(part, *shape) for part, shape in zip(parts, shapes, strict=True)])

        def bias(names: str, *, present: bool) -> int:
            if not present:
                return 0
            parts = [(f"{prefix}self_attn.{name}_proj.bias", a.linears()[f"{name}_proj"][0]) for name in names]
            return room.keep(torch.cat([self._tensor(part, size) for part, size in parts]).float())

        yield weight("self_attn", *"qkv"), bits, bias("qkv", present=a.qkv_bias)
        yield weight("self_attn", "o"), bits, bias("o", present=a.output_bias)
        yield weight("mlp", "gate", "up"), bits, 0
        yield weight("mlp", "down"), bits, 0

    def _norms(self, index: int) -> list[int]:
        prefix = f"model.layers.{index}."
        a = self.architecture
        sizes = dict.fromkeys(("input_layernorm", "post_attention_layernorm"), a.hidden_size)
        if a.qk_norm:
            sizes |= dict.fromkeys(("self_attn.q_norm", "self_attn.k_norm"), a.head_dim)
        found = [self._vector(f"{prefix}{name}.weight", size).ctypes.data for name, size in sizes.items()]
        return found + [0] * (4 - len(found))

    def _tensor(self, name: str, *shape: int) -> torch.Tensor:
        """The kernels work on addresses: nothing may be smaller than the configuration says, or larger."""
        tensor = self._read(name)
        if tuple(tensor.shape) != shape:
            raise BadRequest(f"the base model's {name} has shape {list(tensor.shape)}, its configuration {list(shape)}")
        return tensor

    def _vector(self, name: str, size: int) -> np.ndarray:
        vector: np.ndarray = self._tensor(name, size).float().contiguous().numpy()
        self._kept.append(vector)
        return vector


def runs_compiled(architecture: Architecture, bits: int) -> bool:
    """Whether the tiles fit the model, and are worth it on this processor."""
    a = architecture
    inputs = (a.hidden_size, a.intermediate_size, a.heads * a.head_dim)
    outputs = (a.hidden_size, a.intermediate_size, a.heads * a.head_dim, a.kv_heads * a.head_dim, a.vocab_size)
    fits = all(n % GROUP == 0 for n in inputs) and all(n % LANES == 0 for n in outputs) and a.head_dim % LANES == 0
    return fits and (bits < 16 or LOOKS_UP)


def _at_once(a: Architecture) -> int:
    """Return how many threads may pack: each holds a layer's widest weight, in float32, and about three copies of
    it."""
    each = 4 * 4 * 2 * a.intermediate_size * a.hidden_size
    return max(1, min(usable_processors(), _MEMORY // each))


def _bytes_of_layer(a: Architecture, bits: int) -> int:
    """Return the bytes of a layer's packed weights and biases, with room to begin each on a cache line."""
    width = (a.heads + 2 * a.kv_heads) * a.head_dim
    shapes = [
        (width, a.hidden_size),
        (a.hidden_size, a.heads * a.head_dim),
        (2 * a.intermediate_size, a.hidden_size),
        (a.hidden_size, a.intermediate_size),
    ]
    biases = 4 * (width + a.hidden_size) + 2 * LINE
    return sum(packing.packed_bytes(*shape, bits) for shape in shapes) + packing.whole_lines(biases)


def _bytes_of_head(a: Architecture, bits: int) -> int:
    return packing.packed_bytes(a.vocab_size, a.hidden_size, bits)
