"""Base models lying in folders, laid out as `Org/Model` or `Model`."""

from pathlib import Path

from loradock.registry.contents import pick
from loradock.types.enums import ModelKind
from loradock.types.errors import BadRequest
from loradock.types.names import is_base_name


def base_at(path: Path) -> Path | None:
    """The Hugging Face folder or .gguf file that `path` is or holds, if any."""
    if path.is_file():
        return path if path.suffix == ".gguf" else None
    if (path / "config.json").is_file():
        return path
    files = sorted(path.glob("*.gguf"))
    return files[0] if len(files) == 1 else None


def names_below(root: Path) -> set[str]:
    """Names of the base models one or two levels below `root`."""
    names: set[str] = set()
    for first in _folders(root):
        if base_at(first) is not None:
            names.add(first.name)
        else:
            names |= {f"{first.name}/{second.name}" for second in _folders(first) if base_at(second) is not None}
    return {name for name in names if is_base_name(name)}


def _folders(path: Path) -> list[Path]:
    try:
        return [entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return []


def hub_cached(name: str) -> Path | None:
    """A complete snapshot in the Hugging Face cache of whoever runs the server."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, "config.json")
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    try:
        pick([file.name for file in folder.iterdir()], ModelKind.MODEL)
    except BadRequest:
        return None
    return folder
