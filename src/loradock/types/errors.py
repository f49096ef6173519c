"""Every error a user can meet. A class's docstring is its message; `{fields}` are filled from keywords.

    LoradockError
    ├── BadRequest 400          ├── Unauthenticated 401     ├── NotFound 404
    ├── TooLarge 413            ├── HeadTooLarge 431        ├── RequestTooSlow 408
    ├── Unavailable 503         ├── Internal 500            └── StorageFull 507

Never 409: the official v1 clients silently retry it (docs/internals.md, "Errors").
The first ten are the hosted original's own words; clients and people match on them, so they stay verbatim.
"""

from typing import Any, ClassVar

MAX_NESTING = 200


class LoradockError(Exception):
    """Something went wrong."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = None
    retry_after: int | None = None
    """Seconds after which the same request may succeed by itself."""
    hopeless: ClassVar[bool] = False
    """Whether clients that repeat a request by its status alone should leave it."""

    def __init__(
        self, message: str | None = None, *, param: str | None = None, detail: str | None = None, **fields: Any
    ) -> None:
        text = message if message is not None else (self.__doc__ or "").strip()
        self.message = text.format(**fields) if fields else text
        self.param = param
        self.detail = detail
        super().__init__(self.message)

    @property
    def whole(self) -> str:
        """The message and its detail, for people."""
        return self.message if self.detail is None else f"{self.message}: {self.detail}"

    def body(self) -> dict[str, Any]:
        """The error body that the Python, TypeScript and CLI clients all read."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        if self.detail is not None:  # ours: a message of the hosted original's stays word for word
            error["detail"] = self.detail
        return {"message": self.message, "error": error}

    def headers(self) -> dict[str, str]:
        """Return when to try again, as clients of both families read it."""
        headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        return headers | ({"x-should-retry": "false"} if self.hopeless else {})


class BadRequest(LoradockError):
    """The request cannot be carried out as sent."""

    status = 400
    type = "invalid_request_error"


class NestedTooDeeply(BadRequest):
    """The request body is nested too deeply: no more than {most} arrays and objects may stand inside each other"""

    def __init__(self) -> None:
        super().__init__(most=MAX_NESTING)


class Unauthenticated(LoradockError):
    """Invalid API key. Send a key made with `loradock keys create` as `Authorization: Bearer <key>`."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class KeyRevoked(Unauthenticated):
    """The API key of this request was revoked while it was answered."""


class NotFound(LoradockError):
    """There is nothing here by that name."""

    status = 404
    type = "not_found"


class TooLarge(LoradockError):
    """The request body is larger than this server accepts."""

    status = 413
    type = "invalid_request_error"


class HeadTooLarge(LoradockError):
    """The request's head is larger than this server reads ({limit} KiB). Send fewer or shorter headers."""

    status = 431
    type = "invalid_request_error"


class RequestTooSlow(LoradockError):
    """The rest of the request did not come in time. Send it again, without long pauses."""

    status = 408
    type = "invalid_request_error"


class Unavailable(LoradockError):
    """This is not ready yet; try again shortly."""

    status = 503
    type = "service_unavailable"
    retry_after: int | None = 1


class ServerStopping(Unavailable):
    """The server is stopping before this was done; send it again in a few seconds."""


class Internal(LoradockError):
    """Loradock failed to carry this out; the server log has the details."""


class StorageFull(LoradockError):
    """The server's disk is full. Delete adapters (that still works) or make room on it, and try again"""

    status = 507
    type = "insufficient_storage"
    code = "storage_full"
    hopeless = True


# The ten of the hosted original, word for word.


class BadCombinedId(BadRequest):
    """model_id must be in format 'endpoint_model_name:adapter_name'"""


class EndpointNameMismatch(BadRequest):
    """endpoint name in model_id does not match endpoint"""


class ModelMissing(NotFound):
    """Could not find model"""


class EndpointMissing(NotFound):
    """No endpoint with this id exists"""


class EngineNotInstalled(BadRequest):
    """the built-in engine is not installed on this machine: pip install "loradock[engine]" and start the server again,
    or start it with --vllm-python and create the endpoint with engine 'vllm'"""


class TorchNotInstalled(BadRequest):
    """this model or device takes PyTorch, which is not installed on this machine: pip install "loradock[torch]" and
    start the server again (models whose sizes are multiples of 16 run on a CPU without it)"""


class LoraDisabled(BadRequest):
    """endpoint does not have LoRA enabled"""


class BaseModelMismatch(BadRequest):
    """adapter base model is not compatible with endpoint model"""


class AlreadyBound(BadRequest):
    """adapter is already bound to endpoint"""


class NotBound(BadRequest):
    """adapter is not bound to endpoint"""


class NotDedicated(BadRequest):
    """new_lora_model must be a dedicated endpoint"""


class PublicEndpoint(BadRequest):
    """new_lora_model cannot be a public dedicated endpoint"""


# Ours.


class AdapterRefused(BadRequest):
    """This adapter cannot be served."""

    code = "adapter_refused"


class AdapterNotServed(Unavailable):
    """{name} is attached to {endpoint}, whose replicas do not take it: {reason}. Fix the files and attach it again"""

    code = "adapter_refused"


class DamagedWeights(AdapterRefused):
    """This safetensors file is damaged."""


class ModelNotAvailable(NotFound):
    """No model named {model!r} is attached or running here. `GET /v1/models` lists what can be called."""

    code = "model_not_available"


class EndpointNotRunning(Unavailable):
    """{name} is {state}. Start it first: loradock endpoints start {id}"""

    code = "model_not_available"
    retry_after = None
    hopeless = True


class EndpointFailed(EndpointNotRunning):
    """{name} is {state}. See why: loradock endpoints retrieve {id}. Then start it: loradock endpoints start {id}"""


class EndpointStarting(Unavailable):
    """{name} is {state} and will answer shortly; try again in a few seconds"""

    code = "model_not_ready"


class ModelTooLarge(BadRequest):
    """a replica needs {needed} GiB of memory ({parts}) and there are {there} GiB in all. Take a smaller model, or keep
    its weights in fewer bits (`serve --quantization`)"""


class ReplicaLost(Unavailable):
    """The replica serving this request stopped before it answered; try again"""

    code = "replica_lost"


class RequestEndedReplica(Internal):
    """{count} ended while it computed this request, which may be the reason: it is not sent to another. Send less text
    at once, or change what it asks for, before you send it again"""

    code = "replica_lost"
    hopeless = True


class DatabaseBusy(Unavailable):
    """The server's database is busy. Try again in a few seconds"""

    code = "database_busy"
    retry_after = 3


class DataUnusable(LoradockError):
    """The data folder cannot be used as it is."""


def reason_of(error: Exception) -> str:
    """Return the reason in words for whoever called, without the paths of this machine that an OSError's own text
    holds."""
    if isinstance(error, LoradockError):
        return error.message
    return (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
