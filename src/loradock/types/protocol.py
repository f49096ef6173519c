"""The replica protocol: what both ends, the engine and its callers, must spell alike.

The messages are vLLM's, with fields of ours. Readers take what vLLM sends: further fields, null, fields left out.
"""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

DIALECT_HEADER = "x-loradock-dialect"
"""`openai` or `together` (types.enums.Dialect): which client family shapes the response. vLLM ignores it."""

ACCOUNT_HEADER = "x-loradock-account"
"""The account whose key a request came with: accounts that share an adapter or the base model get equal parts of the
engine. vLLM ignores it."""

ENGINE_SECRET_ENV = "LORADOCK_ENGINE_SECRET"  # noqa: S105 - the name of a variable, not a secret
"""The replica's bearer secret travels in the environment, never on the command line (which `ps` shows)."""


_Text = Annotated[str, Meta(min_length=1)]


LOADING = "loading"
"""The status of an engine that is not ready yet."""


class Health(msgspec.Struct, omit_defaults=True):
    """GET /health. `reason`: why it can serve no more, or what is being loaded. The rest is for whoever has the secret:
    `steps` moves with every step, `work` is what waits for them, `compute_seconds` the processor time of what computes
    them."""

    status: str | None = None
    reason: str | None = None
    steps: int | float | None = None
    work: int | float | None = None
    compute_seconds: int | float | None = None


class Model(msgspec.Struct, kw_only=True):
    """A name that a replica answers to. An adapter's has a `parent`, the base model's name, and a `root`, its folder;
    `tier` (types.enums.AdapterTier) is where it is kept."""

    object: str | None = "model"
    created: int | float | None = None
    owned_by: str | None = "loradock"
    id: str
    root: str | None = None
    parent: str | None = None
    tier: str | UnsetType | None = UNSET


class ModelList(msgspec.Struct, kw_only=True):
    """GET /v1/models."""

    object: str | None = "list"
    data: list[Model]


class LoadAdapter(msgspec.Struct, omit_defaults=True):
    """POST /v1/load_lora_adapter. `lazy`: its first request may read it."""

    lora_name: _Text
    lora_path: _Text
    lazy: bool = False


class UnloadAdapter(msgspec.Struct):
    """POST /v1/unload_lora_adapter."""

    lora_name: _Text


class ErrorDetail(msgspec.Struct):
    """vLLM's `code` is the status."""

    message: str
    type: str | None = None
    param: Any = None
    code: Any = None


class ErrorBody(msgspec.Struct, kw_only=True):
    """The body of every status that is an error; LoradockError.body makes the same. vLLM's has no outer message."""

    message: str = ""
    error: ErrorDetail
