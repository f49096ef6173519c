"""Request bodies of the v1 control API. Null means "not given", as the clients send it."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, field_validator, model_validator

from loradock.api.unknown_fields import check_spelling, remarks
from loradock.endpoints.rules import DEFAULT_LORA_RANK, EndpointChange, NewEndpoint
from loradock.registry.uploads.upload_request import UploadRequest
from loradock.types.enums import DesiredState, EndpointKind, EndpointQuantization, EngineKind, ModelKind, Visibility

NonEmpty = Annotated[str, Field(min_length=1, max_length=500)]


class Body(BaseModel):
    model_config = ConfigDict(extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _well_spelt(cls, value: Any) -> Any:
        """Check the spelling of fields before anything is said to be missing."""
        if isinstance(value, dict):
            check_spelling((name for name in value if isinstance(name, str)), cls.model_fields)
        return value

    def remarks(self) -> list[str]:
        """Return remarks on fields that were ignored, also those of parts of the body."""
        extra = [name for name, value in (self.model_extra or {}).items() if value is not None]
        own = remarks(extra, type(self).model_fields)
        parts = [part for name in type(self).model_fields if isinstance(part := getattr(self, name), Body)]
        return [*own, *(remark for part in parts for remark in part.remarks())]

    @field_validator("*")
    @classmethod
    def _encodable(cls, value: Any) -> Any:
        """JSON can spell half a surrogate pair, which no database stores."""
        if isinstance(value, str) and not value.isascii():
            value.encode()
        return value


class Autoscaling(Body):
    min_replicas: StrictInt = 1
    max_replicas: StrictInt = 1


class PartialAutoscaling(Body):
    min_replicas: StrictInt | None = None
    max_replicas: StrictInt | None = None


class CreateEndpoint(Body):
    """The last are ours, from `lora_enabled` on; the clients pass extra keys through."""

    model: NonEmpty
    hardware: str | None = None
    autoscaling: Autoscaling = Autoscaling()
    display_name: str | None = None
    inactive_timeout: StrictInt | None = None
    state: DesiredState | None = None
    availability_zone: str | None = None
    lora_enabled: StrictBool | None = None
    type: EndpointKind | None = None
    visibility: Visibility | None = None
    max_lora_rank: StrictInt | None = None
    engine: EngineKind | None = None
    auto_start: StrictBool | None = None
    quantization: EndpointQuantization | None = None

    def wanted(self, zone: str | None) -> NewEndpoint:
        """`zone` of the query counts where the body names none."""
        return NewEndpoint(
            model=self.model,
            hardware=self.hardware or "",
            min_replicas=self.autoscaling.min_replicas,
            max_replicas=self.autoscaling.max_replicas,
            display_name=self.display_name,
            inactive_timeout=self.inactive_timeout,
            availability_zone=self.availability_zone or zone,
            lora_enabled=self.lora_enabled is not False,
            max_lora_rank=DEFAULT_LORA_RANK if self.max_lora_rank is None else self.max_lora_rank,
            engine=self.engine,
            auto_start=self.auto_start is True,
            quantization=self.quantization,
            desired=self.state or DesiredState.STARTED,
            kind=self.type or EndpointKind.DEDICATED,
            visibility=self.visibility or Visibility.PRIVATE,
        )


class UpdateEndpoint(Body):
    display_name: str | None = None
    autoscaling: PartialAutoscaling | None = None
    inactive_timeout: StrictInt | None = None
    state: DesiredState | None = None
    lora_enabled: StrictBool | None = None
    max_lora_rank: StrictInt | None = None
    auto_start: StrictBool | None = None
    quantization: EndpointQuantization | None = None

    def change(self) -> EndpointChange:
        """An explicit null for `inactive_timeout` means never, as 0 does."""
        return EndpointChange(
            display_name=self.display_name,
            min_replicas=self.autoscaling.min_replicas if self.autoscaling else None,
            max_replicas=self.autoscaling.max_replicas if self.autoscaling else None,
            inactive_timeout=self.inactive_timeout or 0 if "inactive_timeout" in self.model_fields_set else None,
            lora_enabled=self.lora_enabled,
            max_lora_rank=self.max_lora_rank,
            auto_start=self.auto_start,
            quantization=self.quantization,
            desired=self.state,
        )


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
    subfolder: str | None = None

    def request(self) -> UploadRequest:
        return UploadRequest(
            model_name=self.model_name,
            model_source=self.model_source,
            kind=self.model_type,
            base_model=self.base_model,
            lora_model=self.lora_model,
            hf_token=self.hf_token,
            description=self.description,
            subfolder=self.subfolder,
        )


class ChangeModel(Body):
    base_model: NonEmpty
