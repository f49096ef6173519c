"""GET /docs: openapi.json for people, as a page that needs nothing from anywhere else."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from jinja2 import Environment, PackageLoader
from starlette.responses import HTMLResponse

from loradock.api.openapi import document
from loradock.api.services import ServicesDep

Json = dict[str, Any]
router = APIRouter(include_in_schema=False)
_templates = Environment(loader=PackageLoader("loradock.api", "templates"), autoescape=True, auto_reload=False)
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}
_GROUPS = {
    "chat": "Calling models",
    "completions": "Calling models",
    "endpoints": "Endpoints and their adapters",
    "models": "Models and uploads",
    "jobs": "Models and uploads",
}
_REST = "Account, events and the machine"
_DEEPEST = 3


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    place: str
    type: str
    required: bool
    description: str


@dataclass(frozen=True, slots=True)
class Operation:
    id: str
    method: str
    path: str
    summary: str
    description: str
    fields: list[Field]


@router.get("/docs")
async def docs(request: Request, services: ServicesDep) -> HTMLResponse:
    made = document(request.app)
    groups: dict[str, list[Operation]] = {group: [] for group in dict.fromkeys((*_GROUPS.values(), _REST))}
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            groups.setdefault(_group(path), []).append(_operation(made, path, method, operation))
    page = _templates.get_template("docs.html").render(
        document=made, groups=groups.items(), url=services.settings.url.rstrip("/")
    )
    return HTMLResponse(page, headers=_HEADERS)


def _group(path: str) -> str:
    first = path.removeprefix("/v1/").removeprefix("/v3/").partition("/")[0]
    return _GROUPS.get(first, _REST)


def _operation(made: Json, path: str, method: str, operation: Json) -> Operation:
    parameters = [
        Field(p["name"], p["in"], _type(made, p["schema"]), p.get("required", False), p.get("description", ""))
        for p in operation.get("parameters", ())
    ]
    contents = operation.get("requestBody", {}).get("content", {})
    body = [field for kind, content in contents.items() for field in _fields(made, content["schema"], _place(kind))]
    return Operation(
        id=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation.get("summary", ""),
        description=operation.get("description", ""),
        fields=[*parameters, *body],
    )


def _place(kind: str) -> str:
    return "form" if kind.startswith("multipart") else "body"


def _fields(made: Json, schema: Json, place: str, before: str = "", depth: int = 0) -> Iterator[Field]:
    found = _resolved(made, schema)
    required = found.get("required", ())
    for name, part in found.get("properties", {}).items():
        yield Field(before + name, place, _type(made, part), name in required, part.get("description", ""))
        inner = _resolved(made, part)
        if inner is not part and "properties" in inner and depth < _DEEPEST:
            yield from _fields(made, inner, place, f"{before}{name}.", depth + 1)


def _resolved(made: Json, schema: Json) -> Json:
    """Return the schema that a reference leads to; of several, the first that is an object."""
    for option in schema.get("anyOf", ()):
        if "$ref" in option:
            return _resolved(made, option)
    name = schema.get("$ref", "").rpartition("/")[2]
    found: Json = made["components"]["schemas"][name] if name else schema
    return found


def _type(made: Json, schema: Json) -> str:
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(made, option) for option in schema["anyOf"]))
    found = _resolved(made, schema)
    if "enum" in found:
        return " | ".join(map(str, found["enum"]))
    kind = found.get("type", "any")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)
