"""openapi.json: the control API as FastAPI knows it, with the key it takes, and the calls of models beside it."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from loradock.api.v1.model_answers import ChatCompletion, Completion
from loradock.types.parameters import PARAMETERS, Handling

Json = dict[str, Any]
_KEY = "api_key"
_OPEN = {"/health"}
"""Paths that take no key."""
_MULTIPART = "/v1/models/upload"
_TEXT, _NUMBER, _INTEGER, _FLAG = {"type": "string"}, {"type": "number"}, {"type": "integer"}, {"type": "boolean"}
_TYPES: dict[str, Json] = {
    "model": {
        **_TEXT,
        "description": "An adapter's name, <endpoint name>:<adapter name>, or an endpoint's name or id.",
    },
    "messages": {"type": "array", "items": {"type": "object"}},
    "prompt": {"anyOf": [_TEXT, {"type": "array", "items": {}}]},
    "stop": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]},
    "tools": {"type": "array", "items": {"type": "object"}},
    "tool_choice": {"anyOf": [_TEXT, {"type": "object"}]},
    "response_format": {"type": "object"},
    "stream_options": {"type": "object"},
    "logit_bias": {"type": "object"},
    "chat_template_kwargs": {"type": "object"},
    "logprobs": {"anyOf": [_INTEGER, _FLAG]},
    **dict.fromkeys(("stream", "echo", "parallel_tool_calls"), _FLAG),
    **dict.fromkeys(
        ("max_tokens", "max_completion_tokens", "min_tokens", "n", "seed", "top_k", "top_logprobs"), _INTEGER
    ),
    **dict.fromkeys(
        ("temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"), _NUMBER
    ),
}
_ERROR = {
    "description": "What was wrong, in words.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}
_ERROR_SCHEMA: Json = {
    "type": "object",
    "required": ["message", "error"],
    "properties": {
        "message": _TEXT,
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": _TEXT,
                "type": _TEXT,
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
                "detail": _TEXT,
            },
        },
    },
}

_SUMMARIES = {
    "POST /v1/endpoints": "Create an endpoint for a base model",
    "GET /v1/endpoints": "List endpoints",
    "GET /v1/endpoints/{reference}": "Show an endpoint, by its id or name",
    "PATCH /v1/endpoints/{reference}": "Change an endpoint; start and stop it",
    "DELETE /v1/endpoints/{reference}": "Delete an endpoint",
    "GET /v1/endpoints/{reference}/replicas": "Show its replicas",
    "GET /v1/endpoints/{reference}/logs": "Show what its engines wrote",
    "POST /v1/endpoints/{reference}/adapters": "Attach an adapter",
    "GET /v1/endpoints/{reference}/adapters": "List the attached adapters",
    "DELETE /v1/endpoints/{reference}/adapters": "Detach an adapter",
    "GET /v1/models": "List what can be called, or (catalogue) what was uploaded",
    "POST /v1/models": "Upload from a hub, a URL or the import root",
    "POST /v1/models/upload": "Upload files",
    "GET /v1/models/{name}": "Show a model",
    "PATCH /v1/models/{name}": "Correct the base model of an adapter",
    "DELETE /v1/models/{name}": "Delete a model",
    "GET /v1/jobs": "List uploads",
    "GET /v1/jobs/{job_id}": "Follow an upload",
    "GET /v1/events": "Who did what when",
    "GET /v1/hardware": "What endpoints can run on",
    "GET /v1/clusters/availability-zones": "Where endpoints can run",
    "GET /v1/whoami": "Whose key this is",
    "GET /v3/whoami": "Whose key this is",
    "GET /v1/projects": "The one project of the account",
    "GET /health": "Whether the server answers",
    "GET /metrics": "Figures for Prometheus",
}


def document(api: FastAPI) -> Json:
    """Return the document, which is made once."""
    if api.openapi_schema is None:
        made = get_openapi(title=api.title, version=api.version, routes=api.routes, description=_ABOUT)
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        schemas["Error"] = _ERROR_SCHEMA
        _add_models(made["paths"], schemas)
        _describe_upload(made["paths"][_MULTIPART]["post"])
        components = made["components"]
        components["securitySchemes"] = {_KEY: {"type": "http", "scheme": "bearer", "description": _KEY_IS}}
        for path, operations in made["paths"].items():
            for method, operation in operations.items():
                operation["summary"] = _SUMMARIES.get(f"{method.upper()} {path}", operation["summary"])
                operation["security"] = [] if path in _OPEN else [{_KEY: []}]
                operation["responses"].pop("422", None)  # a wrong body is a 400 here
                operation["responses"]["default"] = _ERROR
        api.openapi_schema = made
    return api.openapi_schema


_ABOUT = "One running endpoint, one base model, many LoRA adapters. Clients of Together AI and OpenAI speak it."
_KEY_IS = "An API key: `loradock keys create`."


def _add_models(paths: Json, schemas: Json) -> None:
    for path, chat, summary, answer in (
        ("/v1/chat/completions", True, "Continue a conversation", ChatCompletion),
        ("/v1/completions", False, "Continue a text", Completion),
    ):
        described = TypeAdapter(answer).json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
        schemas |= described.pop("$defs")
        schemas[answer.__name__] = described
        paths[path] = {
            "post": {
                "summary": summary,
                "operationId": "chat_completions" if chat else "completions",
                "tags": ["models"],
                "requestBody": {"required": True, "content": {"application/json": {"schema": _body(chat=chat)}}},
                "responses": {
                    "200": {
                        "description": "The answer; with `stream`, server-sent events that end with [DONE].",
                        "content": {
                            "application/json": {"schema": {"$ref": f"#/components/schemas/{answer.__name__}"}},
                            "text/event-stream": {},
                        },
                    }
                },
            }
        }


def _body(*, chat: bool) -> Json:
    honoured = [
        name
        for name, known in PARAMETERS.items()
        if known.handling is Handling.HONOURED and (known.chat if chat else known.completions)
    ]
    return {
        "type": "object",
        "required": ["model", "messages" if chat else "prompt"],
        "properties": {name: _TYPES.get(name, {}) for name in honoured},
    }


def _describe_upload(operation: Json) -> None:
    names = ("model_name", "model_type", "base_model", "lora_model", "description", "subfolder")
    files = {"type": "array", "items": {"type": "string", "format": "binary"}}
    schema = {
        "type": "object",
        "required": ["model_name", "files"],
        "properties": {**dict.fromkeys(names, _TEXT), "files": files},
    }
    operation["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
