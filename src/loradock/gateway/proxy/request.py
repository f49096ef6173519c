"""The fields the gateway reads of a request body: the model name, which requests belong together, what is streamed."""

from contextvars import ContextVar
from typing import Any

import msgspec

from loradock.types.errors import BadRequest, LoradockError, NestedTooDeeply

ASKED_MODEL: ContextVar[str | None] = ContextVar("asked_model", default=None)
"""The model that this request asks for: for the log."""


class RequestFields(msgspec.Struct):
    """`affinity`: requests that share it likely share a long prefix, which the replica that has it need not compute
    again (https://platform.openai.com/docs/guides/prompt-caching)."""

    model: str
    prompt_cache_key: Any = None
    user: Any = None
    stream: Any = None
    stream_options: Any = None

    @property
    def affinity(self) -> str | None:
        given = self.prompt_cache_key or self.user
        return given if isinstance(given, str) else None


_HEAD = msgspec.json.Decoder(RequestFields)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""The errors of decoding a caller's body; only what is looked at is checked, and that differs."""


def broken(error: Exception) -> LoradockError:
    """Return the error that a caller gets for one of these."""
    if isinstance(error, RecursionError):
        return NestedTooDeeply()
    return BadRequest(f"The request body is not valid JSON: {error}")


def head_of(body: bytes) -> RequestFields:
    """Raises BadRequest saying what is wrong with the body."""
    try:
        return _HEAD.decode(body)
    except msgspec.ValidationError as error:
        if "out of range" in str(error):  # a number of any field
            raise broken(error) from None
        raise BadRequest(f"'model' must be given, as a string: {error}", param="model") from None
    except BROKEN as error:
        raise broken(error) from None


def with_model(body: bytes, model: str) -> bytes:
    """The same body for another model name; every other value keeps its bytes. Raises BadRequest."""
    try:
        return msgspec.json.encode({**_FIELDS.decode(body), "model": model})
    except BROKEN as error:
        raise broken(error) from None
