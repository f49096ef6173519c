"""Tells which optional parts are installed. `pip install loradock` brings the server, its pages and the command
line."""

from importlib.util import find_spec

from loradock.types.errors import EngineNotInstalled, TorchNotInstalled

_OF_THE_ENGINE = ("tokenizers", "llguidance")


def has_engine() -> bool:
    return all(find_spec(name) is not None for name in _OF_THE_ENGINE)


def require_engine(param: str | None = None) -> None:
    """Raises EngineNotInstalled."""
    if not has_engine():
        raise EngineNotInstalled(param=param)


def require_torch() -> None:
    """Raises TorchNotInstalled."""
    if find_spec("torch") is None:
        raise TorchNotInstalled
