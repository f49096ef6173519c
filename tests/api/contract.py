"""The hosted original's published schemas, as a check on our answers."""

from pathlib import Path

import jsonschema
import yaml

REFERENCE = yaml.safe_load((Path(__file__).parent.parent / "reference" / "together_v1.yaml").read_text())


def _nullable(schema):
    """OpenAPI 3.0's `nullable`, in JSON Schema's words."""
    if isinstance(schema, list):
        return [_nullable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    fixed = {key: _nullable(value) for key, value in schema.items()}
    if fixed.pop("nullable", False):
        fixed["type"] = [fixed["type"], "null"]
    return fixed


SCHEMAS = _nullable(REFERENCE)


def conforms(answer, name: str) -> None:
    jsonschema.validate(answer, {"$ref": f"#/components/schemas/{name}", **SCHEMAS})


def refused(response, status: int, *words: str, type: str = "invalid_request_error", code: str | None = None) -> str:
    """The error body every client can read; returns the message."""
    assert response.status_code == status, response.text
    body = response.json()
    conforms(body, "ErrorData")
    error = body["error"]
    assert body["message"] == error["message"]
    assert (error["type"], error["code"]) == (type, code)
    assert error["param"] is None or isinstance(error["param"], str)
    for word in words:
        assert word in error["message"]
    return error["message"]
