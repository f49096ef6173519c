"""Answers of the v1 API, field for field as its clients parse them; `/openapi.json` describes them from here."""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from loradock.api.unknown_fields import Warned
from loradock.types.enums import (
    AdapterTier,
    EndpointKind,
    EndpointState,
    EngineKind,
    JobStatus,
    ModelKind,
    ModelState,
    ReplicaState,
    Visibility,
)


class Autoscaling(TypedDict):
    min_replicas: int
    max_replicas: int


class EndpointItem(TypedDict):
    """An endpoint as lists show it."""

    object: Literal["endpoint"]
    id: str
    name: str
    display_name: str
    model: str
    type: EndpointKind
    owner: str
    state: EndpointState
    message: str | None
    quantization: str | None
    created_at: str


class EndpointAnswer(EndpointItem, Warned):
    hardware: str
    autoscaling: Autoscaling
    inactive_timeout: int | None
    lora_enabled: bool
    max_lora_rank: int
    engine: EngineKind
    auto_start: bool
    visibility: Visibility


class AttachedAdapter(TypedDict):
    """`replicas`: where each keeps it. `message`: why it is not served, where it is not."""

    model_id: str
    adapter_name: str
    endpoint_name: str
    replicas: dict[str, AdapterTier]
    message: str | None


class Attached(Warned):
    """`model_id` is the combined id that clients call it by."""

    model_id: str


class Detached(Warned):
    model_id: str
    deleted: bool


class ReplicaMemory(TypedDict):
    """In bytes; `planned` is null, and its parts are left out, where no plan could be made."""

    used: int
    planned: int | None
    weights: NotRequired[int]
    kv_cache: NotRequired[int]
    adapters: NotRequired[int]
    program: NotRequired[int]


class ReplicaItem(TypedDict):
    """`adapters`: how many are kept where."""

    object: Literal["replica"]
    id: str
    state: ReplicaState
    in_flight: int
    adapters: dict[AdapterTier, int]
    memory: ReplicaMemory
    message: str | None


class ReplicaLog(TypedDict):
    """`end`: where what is written next begins, in bytes."""

    object: Literal["log"]
    replica: str
    text: str
    end: int


class Pricing(TypedDict):
    cents_per_minute: int


class HardwareSpecs(TypedDict):
    gpu_type: str
    gpu_link: str
    gpu_memory: float
    """In GiB."""
    gpu_count: int


class Availability(TypedDict):
    status: Literal["available", "unavailable"]


class HardwareItem(TypedDict):
    """`availability` only where a model was named."""

    object: Literal["hardware"]
    id: str
    pricing: Pricing
    specs: HardwareSpecs
    updated_at: str
    availability: NotRequired[Availability]


class Zones(TypedDict):
    avzones: list[str]


class EventItem(TypedDict):
    """`endpoint` and `duration_ms` of an attach that is told as one event."""

    object: Literal["event"]
    id: int
    created_at: str
    actor: str
    kind: str
    subject_id: str
    message: str
    endpoint: NotRequired[str]
    duration_ms: NotRequired[int]


class StatusUpdate(TypedDict):
    status: str
    message: str
    timestamp: str


class JobItem(TypedDict):
    """An upload. `message` is the last of its updates."""

    type: str
    job_id: str
    status: JobStatus
    status_updates: list[StatusUpdate]
    message: str | None
    args: dict[str, Any]
    created_at: str
    updated_at: str


class Submitted(TypedDict):
    job_id: str
    model_name: str
    model_id: str
    model_source: str


class UploadAnswer(Warned):
    data: Submitted
    message: str


class CallableModel(TypedDict):
    """What can be called now, as OpenAI's clients list it."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelItem(TypedDict):
    """A model of the catalogue; from `kind` on only of those that were uploaded."""

    id: str
    object: Literal["model"]
    created: int
    type: Literal["chat"]
    display_name: str
    organization: str
    kind: NotRequired[ModelKind]
    state: NotRequired[ModelState]
    base_model: NotRequired[str | None]
    description: NotRequired[str | None]
    rank: NotRequired[int | None]
    target_modules: NotRequired[list[str]]
    size_bytes: NotRequired[int | None]
    digest: NotRequired[str | None]
    attached_to: NotRequired[str | None]


class ModelAnswer(ModelItem, Warned):
    """`message`: what was found when its base model was corrected."""

    owned_by: NotRequired[str]
    message: NotRequired[str]


class Deleted(TypedDict):
    id: str
    deleted: bool


class ApiKeyFacts(TypedDict):
    id: str


class Organization(TypedDict):
    id: str
    name: str


class Project(TypedDict):
    id: str
    name: str
    slug: str


class ProjectItem(Project):
    organization_id: str
    organization_name: str


class Projects(TypedDict):
    object: Literal["list"]
    data: list[ProjectItem]
    next_cursor: None


class Whoami(TypedDict):
    """One body that every client version accepts, flat and nested."""

    type: Literal["project_api_key"]
    api_key: ApiKeyFacts
    organization: Organization
    project: Project
    api_key_id: str
    organization_id: str
    organization_name: str
    project_id: str
    project_name: str
    project_slug: str
    user_id: str


class Health(TypedDict):
    status: Literal["ok"]
