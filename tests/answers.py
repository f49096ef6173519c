"""Every answer that a test gets of the API is held against what `/openapi.json` says of it: no field more or less."""

import re
from functools import cache
from typing import Any

import httpx
from jsonschema import Draft202012Validator

Json = dict[str, Any]


def check(response: httpx.Response) -> None:
    """An httpx hook."""
    if response.headers.get("content-type") != "application/json":
        return
    request = response.request
    base = f"{request.url.scheme}://{request.url.netloc.decode()}"
    schema = _schema(base, request.method.lower(), request.url.path, str(response.status_code))
    if schema is None:
        return
    response.read()
    problems = [f"{error.json_path}: {error.message}" for error in schema.iter_errors(response.json())]
    assert not problems, f"{request.method} {request.url.path} {response.status_code}: {problems[:3]}"


@cache
def _schema(base: str, method: str, path: str, status: str) -> Draft202012Validator | None:
    document = _document(base)
    for template in sorted(document["paths"], key=lambda known: ("{" in known, -len(known))):
        if method in document["paths"][template] and re.fullmatch(re.sub(r"\{\w+\}", ".+", template), path):
            responses = document["paths"][template][method]["responses"]
            content = responses.get(status, responses["default"]).get("content", {})
            schema = content.get("application/json", {}).get("schema")
            return schema and Draft202012Validator({**schema, "components": document["components"]})
    return None


@cache
def _document(base: str) -> Json:
    document: Json = httpx.get(f"{base}/openapi.json").json()
    closed(document["components"]["schemas"])
    return document


def closed(schema: Any) -> None:
    """Forbid what is not described. Requests may hold more, but they are not what is checked."""
    if isinstance(schema, list):
        for part in schema:
            closed(part)
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            closed(part)
