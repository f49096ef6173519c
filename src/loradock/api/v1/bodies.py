"""Request bodies of the v1 control API. Null means "not given", as the clients send it."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, field_validator, model_validator

from loradock.api.unknown_fields import check_spelling, remarks
from loradock.types.enums import DesiredState, EndpointKind, EndpointQuantization, EngineKind, ModelKind, Visibility

NonEmpty = Annotated[str, Field(min_length=1, max_length=500)]


class Body(BaseModel):
    model_config = ConfigDict(extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _well_spelt(cls, value: Any) -> Any:
        """Before anything is said to be missing."""
        if isinstance(value, dict):
            check_spelling((name for name in value if isinstance(name, str)), cls.model_fields)
        return value

    def remarks(self) -> list[str]:
        """On fields that were ignored, also those of parts of the body."""
        extra = [name for name, value in (self.model_extra or {}).items() if value is not None]
        own = remarks(extra, type(self).model_fields)
        parts = [part for name in type(self).model_fields if isinstance(part := getattr(self, name), Body)]
        return [*own, *(remark for part in parts for remark in part.remarks())]

    def given(self) -> list[str]:
        """The known fields that were given a value."""
        return sorted(name for name in type(self).model_fields if getattr(self, name) is not None)

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


class UpdateEndpoint(Body):
    display_name: str | None = None
    autoscaling: PartialAutoscaling | None = None
    inactive_timeout: StrictInt | None = None
    state: DesiredState | None = None
    lora_enabled: StrictBool | None = None
    max_lora_rank: StrictInt | None = None
    auto_start: StrictBool | None = None
    quantization: EndpointQuantization | None = None

    @property
    def new_timeout(self) -> int | None:
        """None when it was not given; an explicit null means never, as 0 does."""
        return self.inactive_timeout or 0 if "inactive_timeout" in self.model_fields_set else None


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


class ChangeModel(Body):
    base_model: NonEmpty
