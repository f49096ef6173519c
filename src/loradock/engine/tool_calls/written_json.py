"""JSON that a model wrote into its text, read while it grows."""

import json
from typing import Any, NoReturn

_TAIL = 6
"""An unfinished `\\u00e9` or `false`: what looks wrong this near to the end may be right with the next token."""
_LARGEST = 1.7976931348623157e308


class BrokenJson(ValueError):
    """This is not JSON, whatever comes after."""


def json_at(text: str, start: int) -> tuple[Any, int] | None:
    """The value that begins at `start`, and where it ends; None while it goes on. Raises BrokenJson."""
    try:
        return _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        if error.msg.startswith("Unterminated string") or len(text) - error.pos <= _TAIL:
            return None
        raise BrokenJson from error
    except (ValueError, RecursionError) as error:
        raise BrokenJson from error


def json_text(value: Any) -> str:
    """Readable, and always text that can be sent: models also write halves of surrogate pairs."""
    text = json.dumps(value, ensure_ascii=False)
    return text if sendable(text) else json.dumps(value)


def sendable(text: str) -> bool:
    """Whether it has no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def whole_characters(text: str) -> str:
    """The same with a replacement character for each half of a surrogate pair."""
    return text if sendable(text) else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _number(text: str) -> float:
    """Clients cannot read infinity."""
    return max(-_LARGEST, min(float(text), _LARGEST))


def _integer(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:  # Python reads no number of more than 4300 digits
        return _number(text)


def _constant(name: str) -> NoReturn:
    raise BrokenJson(name)


_DECODER = json.JSONDecoder(parse_float=_number, parse_int=_integer, parse_constant=_constant)
