"""Random weights as a Hugging Face folder in bfloat16, the same at every making. Tensor by tensor: the largest model
takes three times the memory that a measurement may have."""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.models.shapes import VOCABULARY, Model

_PIECE = 2**24
"""Numbers that are made at a time."""
_QUIET = 0.25
"""Of a token that is never the likeliest."""
EMBEDDING, NORM = "model.embed_tokens.weight", "model.norm.weight"


def write_random(model: Model, folder: Path, tokenizer: Path) -> None:
    """`tokenizer`: a folder of a model whose every file but the weights is taken."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in tokenizer.iterdir():
        if file.suffix != ".safetensors" and file.name != "config.json":
            shutil.copy(file, folder)
    config = json.loads((tokenizer / "config.json").read_text()) | _config(model)
    draft = folder / "model.draft"
    _write(draft, model, _weight_of_tokens(tokenizer))
    draft.rename(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=1))


def _config(model: Model) -> dict[str, object]:
    return {
        "_name_or_path": f"random-{model.name}",
        "hidden_size": model.hidden,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head,
        "intermediate_size": model.feed_forward,
        "max_position_embeddings": model.context,
        "rope_parameters": {"rope_theta": model.rope_theta, "rope_type": "default"},
        "tie_word_embeddings": True,
    }


def shapes(model: Model) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Of every tensor, by its name."""
    yield EMBEDDING, (VOCABULARY, model.hidden)
    for layer in range(model.layers):
        stem = f"model.layers.{layer}"
        for path, (inputs, outputs) in model.projections.items():
            yield f"{stem}.{path}.weight", (outputs, inputs)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"{stem}.{norm}.weight", (model.hidden,)
    yield NORM, (model.hidden,)


def _weight_of_tokens(tokenizer: Path) -> np.ndarray:
    """For each token how large its row of the embedding, and so of the head, is: what such a model says is only ASCII.
    Half a character is no event of a stream, and llama.cpp's server ends with an error where an answer has one."""
    found = json.loads((tokenizer / "tokenizer.json").read_text())
    special = {token["id"] for token in found["added_tokens"]}
    weights = np.full((VOCABULARY, 1), _QUIET, np.float32)
    for token, number in found["model"]["vocab"].items():
        if token.replace("Ġ", " ").isascii() and number not in special:
            weights[number] = 1
    return weights


def _write(file: Path, model: Model, tokens: np.ndarray) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, shape in shapes(model):
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [place, place + size]}
        place += size
    words = json.dumps(header).encode()
    words += b" " * (-len(words) % 64)
    with file.open("wb") as output:
        output.write(len(words).to_bytes(8, "little") + words)
        for number, (name, shape) in enumerate(shapes(model)):
            sizes = tokens * np.float32(0.02) if name == EMBEDDING else np.full((shape[0], 1), shape[-1] ** -0.5)
            for piece in _numbers(shape, sizes.astype(np.float32), seed=number):
                piece.tofile(output)


def _numbers(shape: tuple[int, ...], sizes: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Norms of one, and random matrices, so many rows at a time; `sizes`: of each row."""
    if len(shape) == 1:
        yield bfloat16(np.ones(shape, np.float32))
        return
    dice = np.random.default_rng(seed)
    rows = max(1, _PIECE // shape[1])
    for first in range(0, shape[0], rows):
        some = sizes[first : first + rows]
        yield bfloat16(dice.standard_normal((len(some), shape[1]), dtype=np.float32) * some)


def bfloat16(values: np.ndarray) -> np.ndarray:
    """float32 rounded to the nearest, as the upper halves of its bits."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def read(file: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file in bfloat16, mapped: bits, not values (see `float32`)."""
    with file.open("rb") as content:
        length = int.from_bytes(content.read(8), "little")
        header = json.loads(content.read(length))
    header.pop("__metadata__", None)
    whole = np.memmap(file, np.uint16, "r", offset=8 + length)
    found = {}
    for name, facts in header.items():
        first, end = facts["data_offsets"]
        found[name] = whole[first // 2 : end // 2].reshape(facts["shape"])
    return found


def float32(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)
