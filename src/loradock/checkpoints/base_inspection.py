"""Looking at an uploaded base model before it is accepted."""

import json
from pathlib import Path

from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.base_config import read_architecture
from loradock.checkpoints.safetensors_header import TensorInfo, read_header
from loradock.types.errors import BadRequest

_INDEX = "model.safetensors.index.json"
_FLOATS = ("F32", "F16", "BF16")


def inspect_base(folder: Path) -> Architecture:
    """Headers only: a family the engine serves, every projection present in the right shape, shards inside.

    Raises BadRequest.
    """
    architecture = read_architecture(folder)
    tensors: dict[str, TensorInfo] = {}
    for file in _weight_files(folder):
        tensors |= read_header(folder / file)
    for layer in range(architecture.layers):
        for name, shape in architecture.linears().items():
            _check(tensors, f"{architecture.module_path(layer, name)}.weight", shape)
    embedding = (architecture.vocab_size, architecture.hidden_size)
    _check(tensors, "model.embed_tokens.weight", embedding)
    if not architecture.tie_embeddings:
        _check(tensors, "lm_head.weight", embedding)
    return architecture


def _weight_files(folder: Path) -> list[str]:
    index = folder / _INDEX
    if not index.is_file():
        return ["model.safetensors"]
    try:
        files = set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadRequest(f"{_INDEX} cannot be read: {error!r}") from error
    here = {file.name for file in folder.iterdir()}
    # The engine opens what the index names, so it may name nothing but files beside it.
    strangers = sorted(str(file) for file in files if file not in here)
    if strangers:
        raise BadRequest(f"{_INDEX} names {strangers[0]!r}, which is not among the files: upload every shard")
    return sorted(files)


def _check(tensors: dict[str, TensorInfo], name: str, shape: tuple[int, int]) -> None:
    found = tensors.get(name)
    if found is None:
        raise BadRequest(f"the weights hold no tensor {name}: upload every shard")
    if found.shape != shape or found.dtype not in _FLOATS:
        raise BadRequest(f"{name} is {found.dtype} {list(found.shape)}, but config.json describes {list(shape)} floats")
