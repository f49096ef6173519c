"""Deciding whether what arrived becomes a model: inspection, and which base model it is for."""

import re
from dataclasses import dataclass
from pathlib import Path

from loradock.checkpoints.adapters.adapter_reasons import CONFIG_FILE
from loradock.checkpoints.adapters.inspection import AdapterReport, inspect_adapter
from loradock.checkpoints.base_inspection import inspect_base
from loradock.checkpoints.conventions import read_conventions
from loradock.registry.settling import SeenBases, fitting_hint, settle
from loradock.types.enums import ModelKind
from loradock.types.errors import AdapterRefused, BadRequest
from loradock.types.names import is_base_name, without_lora_suffix

_CACHED = re.compile(r"(?:^|[/\\])models--(?P<org>[A-Za-z0-9][\w.-]*?)--(?P<name>[A-Za-z0-9][\w.-]*)(?:[/\\]|$)")
"""Matches the name by which the Hugging Face cache calls the folder of `org/name`."""

_LONGEST_PATH = 1000


@dataclass(frozen=True)
class Accepted:
    """The result that the revision and model rows will hold; `note` is for the job."""

    kind: ModelKind
    base_model: str | None
    rank: int | None
    target_modules: list[str]
    note: str


def accept(folder: Path, kind: ModelKind, name: str, wanted_base: str | None, bases: SeenBases) -> Accepted:
    """`name`: of the model, for what can be done about it. Raises BadRequest (AdapterRefused for adapters) naming what
    is wrong and what to do."""
    if kind is ModelKind.MODEL:
        found = inspect_base(folder)
        return Accepted(kind, None, None, [], f"{found.family} with {found.layers} layers")
    report = inspect_adapter(folder, None)
    settled = settle(folder, wanted_base or _base_in_config(report, folder, bases), bases)
    base = settled.base_model
    note = f"LoRA of rank {report.max_rank} on {', '.join(report.target_modules)}; "
    if settled.at_hand:
        note += f"shapes agree with {base}"
    else:
        note += f"shapes will be checked at attach against {base}, which is not here; {fitting_hint(settled.fitting)}"
        if settled.fitting:
            way = f"loradock models update {name} --base-model {settled.fitting[0]}"
            note += f": if it was trained on that or a copy of it, say so: {way}"
    remarks = [note, *settled.remarks, *_of_texts(folder)]
    return Accepted(kind, base, report.max_rank, report.target_modules, "; ".join(remarks))


def _of_texts(folder: Path) -> list[str]:
    """Return what the adapter brings besides weights. Raises AdapterRefused for files that cannot be read."""
    try:
        found = read_conventions(folder)
    except BadRequest as error:
        raise AdapterRefused(f"{error.message}: fix the file or leave it out") from error
    return ["chats with it are written with its own chat template"] if found.templates else []


def _base_in_config(report: AdapterReport, folder: Path, bases: SeenBases) -> str:
    base = report.config.base_model
    if base is not None and (cached := _CACHED.search(base[:_LONGEST_PATH])):
        base = f"{cached['org']}/{cached['name']}"
    if base is not None and is_base_name(base):
        return without_lora_suffix(base)
    if base is None:
        reason = f"{CONFIG_FILE} names no base model: say which with base_model"
    else:
        reason = (
            f"{CONFIG_FILE} names {base[:200]!r} as its base model, which is not a valid model name: give base_model"
        )
    fitting = bases.fitting(report, folder, base or "")
    raise BadRequest(f"{reason} ({fitting_hint(fitting)})", param="base_model")
