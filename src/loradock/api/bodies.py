"""Request bodies of the v1 control API. Null means "not given", as the clients send it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from loradock.types.enums import DesiredState, EndpointKind, ModelKind, Visibility

NonEmpty = Annotated[str, Field(min_length=1, max_length=500)]


class Body(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Autoscaling(Body):
    min_replicas: int = 1
    max_replicas: int = 1


class PartialAutoscaling(Body):
    min_replicas: int | None = None
    max_replicas: int | None = None


class CreateEndpoint(Body):
    """`lora_enabled`, `type` and `visibility` are ours; the clients pass extra keys through."""

    model: NonEmpty
    hardware: str | None = None
    autoscaling: Autoscaling = Autoscaling()
    display_name: str | None = None
    inactive_timeout: int | None = None
    state: DesiredState | None = None
    availability_zone: str | None = None
    lora_enabled: bool | None = None
    type: EndpointKind | None = None
    visibility: Visibility | None = None


class UpdateEndpoint(Body):
    display_name: str | None = None
    autoscaling: PartialAutoscaling | None = None
    inactive_timeout: int | None = None
    state: DesiredState | None = None


class AdapterReference(Body):
    model_id: str


class UploadModel(Body):
    model_name: NonEmpty
    model_source: NonEmpty
    model_type: ModelKind | None = None
    base_model: str | None = None
    lora_model: str | None = None
    hf_token: str | None = None
    description: str | None = None
