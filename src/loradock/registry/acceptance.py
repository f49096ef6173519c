"""Deciding whether what arrived becomes a model: inspection, and which base model it is for."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.base_inspection import inspect_base
from loradock.checkpoints.inspection import check_fits, inspect_adapter
from loradock.types.enums import ModelKind
from loradock.types.errors import BadRequest
from loradock.types.names import is_base_name, without_lora_suffix

FindArchitecture = Callable[[str], Architecture | None]


@dataclass(frozen=True)
class Accepted:
    """What the revision and model rows will say; `note` is for the job."""

    kind: ModelKind
    base_model: str | None
    rank: int | None
    target_modules: list[str]
    note: str


def accept(folder: Path, kind: ModelKind, wanted_base: str | None, architecture: FindArchitecture) -> Accepted:
    """Raises BadRequest (AdapterRefused for adapters) naming what is wrong and what to do."""
    if kind is ModelKind.MODEL:
        found = inspect_base(folder)
        return Accepted(kind, None, None, [], f"{found.family} with {found.layers} layers")
    report = inspect_adapter(folder, None)
    base = wanted_base or _base_in_config(report.config.base_model)
    shape = architecture(base)
    if shape is not None:
        check_fits(report, folder, shape)
    checked = "shapes agree with" if shape else "shapes will be checked at attach against"
    note = f"LoRA of rank {report.max_rank} on {', '.join(report.target_modules)}; {checked} {base}"
    return Accepted(kind, base, report.max_rank, report.target_modules, note)


def _base_in_config(base: str | None) -> str:
    if base is None:
        raise BadRequest("adapter_config.json names no base model: say which with base_model", param="base_model")
    if not is_base_name(base):
        raise BadRequest(
            f"adapter_config.json names {base!r} as its base model, which is no model name: give base_model",
            param="base_model",
        )
    return without_lora_suffix(base)
