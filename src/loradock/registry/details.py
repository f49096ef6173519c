"""Details of a model's content: read from the published files when somebody looks."""

import math
from dataclasses import dataclass
from pathlib import Path

from loradock.checkpoints.adapters.adapter import WEIGHTS_FILE, read_adapter_config
from loradock.checkpoints.conventions import read_conventions
from loradock.checkpoints.safetensors_header import TensorInfo, read_header
from loradock.registry.blobs import DERIVED


@dataclass(frozen=True, slots=True)
class FileFacts:
    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """`scaling` is what the update is multiplied with; `parameters` and `layers` count what the weights hold."""

    alpha: float
    scaling: float
    use_rslora: bool
    patterns: int
    """The number of modules that have a rank or an alpha of their own."""
    base_in_config: str | None
    dtypes: list[str]
    parameters: int
    layers: int
    chat_template: bool
    """Whether requests to this adapter are rendered with a template of its own."""


def files_of(path: Path) -> list[FileFacts]:
    """Return the files of a folder or of one file, by name; empty when it is gone."""
    found = sorted(path.iterdir()) if path.is_dir() else [path]
    content = (file for file in found if file.is_file() and not file.name.startswith(DERIVED))
    return [FileFacts(file.name, file.stat().st_size) for file in content]


def adapter_facts(folder: Path) -> AdapterFacts | None:
    """None when the files are gone. Raises AdapterRefused when they were damaged since they were accepted."""
    if not (folder / WEIGHTS_FILE).is_file():
        return None
    config = read_adapter_config(folder)
    tensors = read_header(folder / WEIGHTS_FILE)
    return AdapterFacts(
        alpha=config.alpha,
        scaling=config.scaling(""),
        use_rslora=config.use_rslora,
        patterns=len({*config.rank_pattern, *config.alpha_pattern}),
        base_in_config=config.base_model,
        dtypes=sorted({tensor.dtype for tensor in tensors.values()}),
        parameters=sum(math.prod(tensor.shape) for tensor in tensors.values()),
        layers=_layers(tensors),
        chat_template=bool(read_conventions(folder).templates),
    )


def _layers(tensors: dict[str, TensorInfo]) -> int:
    return len({name.partition(".layers.")[2].partition(".")[0] for name in tensors})
