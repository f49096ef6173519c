"""Which files of a bundle make up a model, and where in the bundle they may lie."""

import re
from collections.abc import Iterable

from loradock.checkpoints.adapter import CONFIG_FILE, WEIGHTS_FILE
from loradock.types.enums import ModelKind
from loradock.types.errors import AdapterRefused, BadRequest

ADAPTER_FILES = frozenset({CONFIG_FILE, WEIGHTS_FILE})
MODEL_CONFIG = "config.json"
_MODEL_FILES = re.compile(
    r"config\.json|generation_config\.json|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json"
    r"|added_tokens\.json|chat_template\.(jinja|json)|model\.safetensors(\.index\.json)?"
    r"|model-\d{5}-of-\d{5}\.safetensors"
)
_PICKLE = re.compile(r"(adapter_model|pytorch_model[-\w]*|model)\.(bin|pt|pth|ckpt|pkl)")
_JUNK = re.compile(r"(^|/)(__MACOSX/|\._|\.DS_Store$|Thumbs\.db$|\.git/|\.cache/)")


def is_wanted(name: str, kind: ModelKind) -> bool:
    """Whether a file of this name (no folders) belongs to a model of this kind."""
    return name in ADAPTER_FILES if kind is ModelKind.ADAPTER else bool(_MODEL_FILES.fullmatch(name))


def check_entry_name(name: str) -> None:
    """Raises BadRequest for a name that could leave the folder it is unpacked in."""
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or "\0" in name or ".." in parts or re.match(r"[A-Za-z]:", name):
        raise BadRequest(f"the archive holds {name!r}, which points outside of it: pack the files by plain names")


def pick(names: Iterable[str], kind: ModelKind | None) -> tuple[ModelKind, dict[str, str]]:
    """(kind, entry name → file name) for the files at the root or inside one single folder.

    `kind` None is decided by what is there. Raises BadRequest or AdapterRefused saying what is missing.
    """
    flat = _without_single_folder([name for name in names if not _JUNK.search(name)])
    here = [file for file in flat if "/" not in file]
    found = kind or (ModelKind.ADAPTER if CONFIG_FILE in here else ModelKind.MODEL)
    _check_present(set(here), found)
    return found, {flat[file]: file for file in here if is_wanted(file, found)}


def _without_single_folder(names: list[str]) -> dict[str, str]:
    """Path below the common folder → entry name."""
    clean = {name.removeprefix("./"): name for name in names}
    tops = {name.partition("/")[0] for name in clean}
    if len(tops) == 1 and all("/" in name for name in clean):
        return {name.partition("/")[2]: entry for name, entry in clean.items()}
    return clean


def _check_present(files: set[str], kind: ModelKind) -> None:
    config, weights = (CONFIG_FILE, WEIGHTS_FILE) if kind is ModelKind.ADAPTER else (MODEL_CONFIG, "model.safetensors")
    if config not in files:
        raise BadRequest(_no_config(files, kind, config))
    shards = any(file.endswith(".safetensors") and is_wanted(file, kind) for file in files)
    if not shards:
        raise AdapterRefused(_no_weights(files, weights))
    if kind is ModelKind.MODEL and "tokenizer.json" not in files:
        raise BadRequest("tokenizer.json is missing: save the model's fast tokenizer beside its weights")


def _no_config(files: set[str], kind: ModelKind, config: str) -> str:
    if kind is ModelKind.MODEL and CONFIG_FILE in files:
        return "this is an adapter: upload it with model_type adapter"
    if kind is ModelKind.ADAPTER and MODEL_CONFIG in files:
        return "this is a base model, not an adapter: upload it with model_type model"
    return f"{config} is missing: the files must lie at the top or inside one single folder"


def _no_weights(files: set[str], weights: str) -> str:
    pickles = sorted(file for file in files if _PICKLE.fullmatch(file))
    if pickles:
        return f"{pickles[0]} is a pickle, which can run code when opened: save with safetensors ({weights}) instead"
    return f"{weights} is missing: the files must lie at the top or inside one single folder"
