"""The forms for creating and editing an endpoint: what they hold, and what is asked for with it."""

from collections.abc import Mapping

from loradock.endpoints.rules import DEFAULT_LORA_RANK, EndpointChange, NewEndpoint
from loradock.store.tables import Endpoint
from loradock.types.enums import EndpointQuantization, EngineKind
from loradock.types.errors import BadRequest

Values = dict[str, str]
"""A form's fields as text; a box that is not ticked is empty."""

_FIELDS = (
    "model",
    "hardware",
    "min_replicas",
    "max_replicas",
    "inactive_timeout",
    "lora_enabled",
    "max_lora_rank",
    "display_name",
    "engine",
    "auto_start",
    "quantization",
)
_TICKED = "on"


def empty_form(model: str = "") -> Values:
    defaults = {"min_replicas": "1", "max_replicas": "1", "max_lora_rank": str(DEFAULT_LORA_RANK)}
    return {
        **dict.fromkeys(_FIELDS, ""),
        **defaults,
        "model": model,
        "lora_enabled": _TICKED,
    }


def sent_form(form: Mapping[str, object]) -> Values:
    return {name: value.strip() if isinstance(value := form.get(name), str) else "" for name in _FIELDS}


def form_of(endpoint: Endpoint) -> Values:
    deployment = endpoint.deployment
    return {
        "model": deployment.base_model,
        "hardware": deployment.hardware,
        "min_replicas": str(deployment.min_replicas),
        "max_replicas": str(deployment.max_replicas),
        "inactive_timeout": str(deployment.inactive_timeout or ""),
        "lora_enabled": _TICKED if deployment.lora_enabled else "",
        "max_lora_rank": str(deployment.max_lora_rank),
        "display_name": "" if endpoint.display_name == endpoint.name else endpoint.display_name,
        "engine": deployment.engine,
        "auto_start": _TICKED if deployment.auto_start else "",
        "quantization": deployment.quantization or "",
    }


def to_create(values: Values) -> NewEndpoint:
    """Raises BadRequest naming the field at fault."""
    if not values["model"]:
        raise BadRequest("choose the base model that this endpoint runs", param="model")
    rank = _whole(values, "max_lora_rank")
    return NewEndpoint(
        model=_encodable(values, "model"),
        hardware=values["hardware"],
        min_replicas=_needed(values, "min_replicas"),
        max_replicas=_needed(values, "max_replicas"),
        display_name=_encodable(values, "display_name") or None,
        inactive_timeout=_whole(values, "inactive_timeout"),
        lora_enabled=bool(values["lora_enabled"]),
        max_lora_rank=DEFAULT_LORA_RANK if rank is None else rank,
        engine=_engine(values["engine"]),
        auto_start=bool(values["auto_start"]),
        quantization=_quantization(values["quantization"]),
    )


def to_update(values: Values, before: Values) -> EndpointChange:
    """Return only what differs from `before`. Raises BadRequest naming the field at fault."""
    changed = {name for name in _FIELDS if values[name] != before[name]}
    bounds = bool(changed & {"min_replicas", "max_replicas"})
    return EndpointChange(
        display_name=_encodable(values, "display_name") if "display_name" in changed else None,
        min_replicas=_needed(values, "min_replicas") if bounds else None,
        max_replicas=_needed(values, "max_replicas") if bounds else None,
        inactive_timeout=_whole(values, "inactive_timeout") or 0 if "inactive_timeout" in changed else None,
        lora_enabled=bool(values["lora_enabled"]) if "lora_enabled" in changed else None,
        max_lora_rank=_needed(values, "max_lora_rank") if "max_lora_rank" in changed else None,
        auto_start=bool(values["auto_start"]) if "auto_start" in changed else None,
        quantization=_quantization(values["quantization"]) if "quantization" in changed else None,
    )


def _needed(values: Values, name: str) -> int:
    found = _whole(values, name)
    if found is None:
        raise BadRequest("give a whole number", param=name)
    return found


def _whole(values: Values, name: str) -> int | None:
    text = values[name]
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise BadRequest(f"{text!r} is not a whole number", param=name) from None


def _engine(name: str) -> EngineKind | None:
    try:
        return EngineKind(name) if name else None
    except ValueError:
        raise BadRequest(f"there is no engine named {name!r}", param="engine") from None


def _quantization(name: str) -> EndpointQuantization | None:
    try:
        return EndpointQuantization(name) if name else None
    except ValueError:
        raise BadRequest(f"weights are not kept in {name!r} here", param="quantization") from None


def _encodable(values: Values, name: str) -> str:
    """Browsers send half a surrogate pair as U+FFFD, other clients what they like. Length: as the API's."""
    if len(values[name]) > 500:
        raise BadRequest(f"this has {len(values[name])} characters: give at most 500", param=name)
    return values[name]
