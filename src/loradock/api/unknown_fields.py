"""Fields of a request that nobody knows here: one that was probably mistyped is refused, another is remarked on."""

from collections.abc import Iterable
from typing import NotRequired, TypeVar

from typing_extensions import TypedDict

from loradock.types.errors import BadRequest
from loradock.types.parameters import MAX_REMARKS, nearest

_HOSTED = {"allow_unsupported", "disable_prompt_cache", "disable_speculative_decoding"}
"""Fields that the hosted original's clients send and nothing depends on here."""


class Remark(TypedDict):
    message: str


class Warned(TypedDict):
    """An answer in which fields of the request that were ignored are told."""

    warnings: NotRequired[list[Remark]]


Answer = TypeVar("Answer", bound=Warned)


def check_spelling(given: Iterable[str], known: Iterable[str]) -> None:
    """Raises BadRequest for a name that is nearly the one of a field which was not given."""
    given, known = set(given), set(known)
    for name in sorted(given - known - _HOSTED):
        if meant := nearest(name, known - given):
            raise BadRequest(f"there is no field {_shown(name)}: did you mean {meant}?", param=meant)


def remarks(given: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return remarks in words, for the answer. `given` are names with a value."""
    known = list(known)
    ignored = [name for name in given if name not in known and name.rpartition(".")[2] not in _HOSTED]
    told = [
        f"{_shown(name)} is not known here and was ignored; known are {', '.join(sorted(known))}"
        for name in ignored[:MAX_REMARKS]
    ]
    if len(ignored) > MAX_REMARKS:
        told.append(f"{len(ignored) - MAX_REMARKS} more fields are not known here and were ignored")
    return told


def remarked(answer: Answer, told: list[str]) -> Answer:
    """The answer with `warnings`, in the form that answers of models have them."""
    if told:
        answer["warnings"] = [{"message": message} for message in told]
    return answer


def _shown(name: str) -> str:
    return ascii(name if len(name) <= 64 else f"{name[:64]}…")
