"""Finds which files of a bundle make up a model, and where in the bundle they may lie."""

import re
from collections.abc import Iterable

from loradock.checkpoints.adapters.adapter import WEIGHTS_FILE
from loradock.checkpoints.adapters.adapter_reasons import CONFIG_FILE
from loradock.checkpoints.adapters.inspection import missing_weights
from loradock.checkpoints.conventions import CONVENTION_FILES
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
_WORDS = re.compile(r"\d+|\D+")
_SHOWN = 20
_LONGEST_NAME = 1000
_JUNK = re.compile(r"(^|/)(__MACOSX/|\._|\.DS_Store$|Thumbs\.db$|desktop\.ini$|\.git/|\.cache/|\.ipynb_checkpoints/)")


def is_wanted(name: str, kind: ModelKind) -> bool:
    """Whether a file of this name (no folders, in whatever case) belongs to a model of this kind."""
    name = name.lower()
    if kind is ModelKind.ADAPTER:
        return name in ADAPTER_FILES or name in CONVENTION_FILES
    return bool(_MODEL_FILES.fullmatch(name))


def check_entry_name(name: str) -> None:
    """Raises BadRequest for a name that could leave the folder it is unpacked in."""
    if len(name) > _LONGEST_NAME:
        raise BadRequest(f"the archive holds a name of {len(name)} characters, {name[:100]!r}…: pack the files anew")
    if not stays_inside(name):
        raise BadRequest(f"the archive holds {name!r}, which points outside of it: pack the files by plain names")


def stays_inside(name: str) -> bool:
    outside = (
        len(name) > _LONGEST_NAME or name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/")
    )
    return not outside and re.match(r"[A-Za-z]:", name) is None


def pick(
    names: Iterable[str], kind: ModelKind | None, subfolder: str | None = None
) -> tuple[ModelKind, dict[str, str]]:
    """(kind, entry name → file name) for the one model among these files, below `subfolder` if that is given.

    A base model lies at the top or inside one single folder. So does an adapter, or else in the one folder that holds
    one. `kind` None is decided by what is there. Raises BadRequest or AdapterRefused saying what is missing, or which
    adapters there are to choose from.
    """
    flat = _without_single_folder(_below([name for name in names if not _JUNK.search(name)], subfolder))
    here = {file.lower() for file in flat if "/" not in file}
    folders = _adapter_folders(flat)
    found = kind or _kind_of(here, folders)
    folder = _choose(folders, subfolder) if found is ModelKind.ADAPTER else ""
    picked: dict[str, str] = {}
    for file, entry in flat.items():
        if file.rpartition("/")[0] == folder:
            picked[entry] = file.rpartition("/")[2]
    _check_present({file.lower() for file in picked.values()}, found)
    return found, _canonical({entry: file for entry, file in picked.items() if is_wanted(file, found)})


def _below(names: list[str], subfolder: str | None) -> list[str]:
    """Entries below the folder that was named. Raises BadRequest where there are none, saying which there are."""
    if not subfolder:
        return names
    wanted = subfolder.strip("/") + "/"
    clean = _without_single_folder(names)
    below = [entry for file, entry in clean.items() if file.startswith(wanted)]
    below = below or [name for name in names if name.removeprefix("./").startswith(wanted)]
    if not below:
        there = _listed(_adapter_folders(clean))
        raise BadRequest(
            f"there is no folder {subfolder[:200]!r} here" + (f"; adapters lie in {there}" if there else ""),
            param="subfolder",
        )
    return below


def _kind_of(here: set[str], folders: list[str]) -> ModelKind:
    is_adapter = CONFIG_FILE in here or (MODEL_CONFIG not in here and folders)
    return ModelKind.ADAPTER if is_adapter else ModelKind.MODEL


def _adapter_folders(files: Iterable[str]) -> list[str]:
    """Folders with an adapter_config.json, those with weights as well where there are any; checkpoints by number."""
    inside: dict[str, set[str]] = {}
    for file in files:
        folder, _, name = file.rpartition("/")
        inside.setdefault(folder, set()).add(name.lower())
    configured = [folder for folder, names in inside.items() if CONFIG_FILE in names]
    whole = [folder for folder in configured if WEIGHTS_FILE in inside[folder]]
    return sorted(whole or configured, key=lambda folder: [(len(part), part) for part in _WORDS.findall(folder)])


def _choose(folders: list[str], subfolder: str | None) -> str:
    if "" in folders or not folders:
        return ""
    if len(folders) > 1:
        named = "/".join(filter(None, [(subfolder or "").strip("/"), folders[0]]))
        raise BadRequest(
            f"there are several adapters here: {_listed(folders)}. Name one with subfolder, such as {named}"
            f" (loradock models upload … --subfolder {named}; on a hub also org/name/{named})",
            param="subfolder",
        )
    return folders[0]


def _listed(folders: list[str]) -> str:
    more = f" and {len(folders) - _SHOWN} more" if len(folders) > _SHOWN else ""
    return ", ".join(folder[:100] or "the top" for folder in folders[:_SHOWN]) + more


def _canonical(picked: dict[str, str]) -> dict[str, str]:
    """Entry name → file name as we spell it. Raises BadRequest for two that differ in case only."""
    by_name: dict[str, str] = {}
    for entry, file in picked.items():
        if file.lower() in by_name:
            raise BadRequest(f"there are several {file.lower()} that differ in upper and lower case only: keep one")
        by_name[file.lower()] = entry
    return {entry: file for file, entry in by_name.items()}


def _without_single_folder(names: list[str]) -> dict[str, str]:
    """Path below the common folder → entry name."""
    clean = {name.removeprefix("./"): name for name in names}
    tops = {name.partition("/")[0] for name in clean}
    if len(tops) == 1 and all("/" in name for name in clean):
        return {name.partition("/")[2]: entry for name, entry in clean.items()}
    return clean


def _check_present(files: set[str], kind: ModelKind) -> None:
    config = CONFIG_FILE if kind is ModelKind.ADAPTER else MODEL_CONFIG
    if config not in files:
        raise BadRequest(_no_config(files, kind, config))
    if kind is ModelKind.ADAPTER:
        if WEIGHTS_FILE not in files:
            raise AdapterRefused(missing_weights(files))
        return
    if not any(file.endswith(".safetensors") and is_wanted(file, kind) for file in files):
        raise AdapterRefused(_no_weights(files, "model.safetensors"))
    if "tokenizer.json" not in files:
        raise BadRequest("tokenizer.json is missing: save the model's fast tokenizer beside its weights")


def _no_config(files: set[str], kind: ModelKind, config: str) -> str:
    if kind is ModelKind.MODEL and CONFIG_FILE in files:
        return "this is an adapter: upload it with model_type adapter"
    if kind is ModelKind.ADAPTER and MODEL_CONFIG in files:
        return "this is a base model, not an adapter: upload it with model_type model"
    if kind is ModelKind.ADAPTER:
        return f"{config} is missing: no folder here holds an adapter as PEFT's save_pretrained writes it"
    return f"{config} is missing: the files must lie at the top or inside one single folder"


def _no_weights(files: set[str], weights: str) -> str:
    pickles = sorted(file for file in files if _PICKLE.fullmatch(file))
    if pickles:
        return f"{pickles[0]} is a pickle, which can run code when opened: save with safetensors ({weights}) instead"
    return f"{weights} is missing: the files must lie at the top or inside one single folder"
