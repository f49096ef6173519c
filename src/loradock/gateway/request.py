"""What the gateway reads of a request body: the model name and nothing else."""

from typing import Any

import msgspec

from loradock.types.errors import BadRequest


class _Head(msgspec.Struct):
    model: str


def model_of(body: bytes) -> str:
    """Raises BadRequest saying what is wrong with the body."""
    try:
        return msgspec.json.decode(body, type=_Head).model
    except msgspec.ValidationError as error:
        raise BadRequest(f"'model' must be given, as a string: {error}", param="model") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The request body is not valid JSON: {error}") from None


def with_model(body: bytes, model: str) -> bytes:
    """The same body for another model name; every other value keeps its bytes."""
    fields: dict[str, Any] = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({**fields, "model": model})
