"""Every lifecycle and kind, once: the same words in the database, the API, the CLI and the UI."""

from enum import StrEnum


class EndpointState(StrEnum):
    """PENDING → STARTING → STARTED → STOPPING → STOPPED; ERROR from any; STOPPED and ERROR → PENDING by start."""

    PENDING = "PENDING"
    STARTING = "STARTING"
    STARTED = "STARTED"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    ERROR = "ERROR"


class DesiredState(StrEnum):
    """What the owner asked of a deployment; the v1 API's writable `state`."""

    STARTED = "STARTED"
    STOPPED = "STOPPED"


class EndpointKind(StrEnum):
    DEDICATED = "dedicated"
    SERVERLESS = "serverless"


class Visibility(StrEnum):
    PRIVATE = "private"
    PUBLIC = "public"


class ModelKind(StrEnum):
    MODEL = "model"
    ADAPTER = "adapter"


class ModelState(StrEnum):
    """UPLOADING → READY. A model whose upload failed is removed, so its name is free again."""

    UPLOADING = "UPLOADING"
    READY = "READY"


class JobStatus(StrEnum):
    """Queued → Running → Complete or Failed (the v1 API's own spelling)."""

    QUEUED = "Queued"
    RUNNING = "Running"
    COMPLETE = "Complete"
    FAILED = "Failed"


class AttachmentState(StrEnum):
    """ATTACHING → ATTACHED → DETACHING → (row gone). Listed and routed only while ATTACHED.

    ATTACHING found at start-up is an attach that was cut off: it is undone. DETACHING is finished.
    """

    ATTACHING = "ATTACHING"
    ATTACHED = "ATTACHED"
    DETACHING = "DETACHING"


class AttachStep(StrEnum):
    """The visible steps of the attach transaction, in order."""

    AUTHORIZE = "authorize"
    RESOLVE = "resolve"
    COMPATIBLE = "compatible"
    FITS = "fits"
    STAGE = "stage"
    LOAD = "load"
    PROBE = "probe"
    ROUTE = "route"


class ReplicaState(StrEnum):
    """STARTING → READY → DRAINING → (row gone); FAILED from STARTING or READY. UNREADY is READY without an answer or
    without progress: no new requests go there (control/replicas/liveness.py)."""

    STARTING = "STARTING"
    READY = "READY"
    UNREADY = "UNREADY"
    DRAINING = "DRAINING"
    FAILED = "FAILED"


class Fate(StrEnum):
    """The fate of a replica that was lost, as far as it tells whether a request was the reason.

    KILLED: by somebody else. OUT_OF_MEMORY: by the kernel. CRASHED: by itself. STUCK: it computed nothing any more
    and was ended for that.
    """

    KILLED = "killed"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    STUCK = "stuck"
    UNKNOWN = "unknown"


class EngineKind(StrEnum):
    """What serves a deployment's replicas: our own engine, or vLLM."""

    EMBEDDED = "embedded"
    VLLM = "vllm"


class Quantization(StrEnum):
    """The number of bits in which our own engine keeps a model's weights when not in 16."""

    INT4 = "int4"
    INT8 = "int8"


class EndpointQuantization(StrEnum):
    """What an endpoint's owner asked for; NONE: 16 bits, whatever the server's default is."""

    NONE = "none"
    INT8 = "int8"
    INT4 = "int4"


def quantization_in_effect(asked: EndpointQuantization | None, default: Quantization | None) -> Quantization | None:
    """`asked` None: as the server's `default` says; the result None: 16 bits."""
    if asked is None:
        return default
    return None if asked is EndpointQuantization.NONE else Quantization(asked.value)


class LogLevel(StrEnum):
    """The level from which on the server logs."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class AdapterTier(StrEnum):
    """Where a replica keeps an adapter: in use by running requests, in memory, or only on its disk.

    A request moves it up; it moves down when others need the room.
    """

    ACTIVE = "active"
    RAM = "ram"
    DISK = "disk"


class Dialect(StrEnum):
    """Which client family a response is shaped for; the gateway tells the engine in `DIALECT_HEADER`."""

    OPENAI = "openai"
    TOGETHER = "together"


class Outcome(StrEnum):
    """The way a request ended, as it is counted: `aborted` is a client that left before the end."""

    OK = "ok"
    CLIENT_ERROR = "client_error"
    SERVER_ERROR = "server_error"
    ABORTED = "aborted"
