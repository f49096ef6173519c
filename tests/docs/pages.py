"""The tables of docs/configuration.md and docs/api.md, made of what the programs say of themselves.

python -m tests.docs.pages        # writes them anew
"""

import argparse
import re
import tempfile
from pathlib import Path
from typing import Any

from typer.main import get_command

from loradock.cli.main import app
from loradock.configuration.settings import default_data_dir
from loradock.engine.process.options import parser
from loradock.types.parameters import PARAMETERS, Handling
from tests.servers import RunningServer

DOCS = Path(__file__).parents[2] / "docs"
_PART = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_DATA_DIR = str(default_data_dir())


def _cell(text: object) -> str:
    return " ".join(str(text).replace(_DATA_DIR, "~/.local/share/loradock").replace("|", r"\|").split())


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _command(*path: str) -> Any:
    found: Any = get_command(app)
    for name in path:
        found = found.commands[name]
    return found


def _shown(value: object) -> str:
    if value is None or value == "" or value == ():
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{value}`"


def options(*path: str) -> str:
    """Flags of a command of ours."""
    rows = []
    for option in _command(*path).params:
        if option.param_type_name == "option" and not option.hidden and option.name != "help":
            flags = ", ".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts) if flag.startswith("--"))
            variables = [option.envvar] if isinstance(option.envvar, str) else option.envvar or []
            default = option.default() if callable(option.default) else option.default
            rows.append((flags, ", ".join(f"`{name}`" for name in variables), _shown(default), option.help or ""))
    return _table(("flag", "variable", "default", "meaning"), rows)


def engine_options() -> str:
    rows = []
    for action in parser()._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        meaning = action.help or ""
        if action.choices:
            meaning = f"{', '.join(map(str, action.choices))}. {meaning}".removesuffix(". ")
        default = None if action.default is False or action.default == [] else action.default
        rows.append((f"`{action.option_strings[0]}`", _shown(default), meaning))
    return _table(("flag", "default", "meaning"), rows)


HOSTED = {
    *("POST /v1/chat/completions", "POST /v1/completions", "GET /v1/models", "POST /v1/models", "GET /v1/jobs"),
    *("GET /v1/jobs/{job_id}", "GET /v1/endpoints", "POST /v1/endpoints", "GET /v1/endpoints/{reference}"),
    *("PATCH /v1/endpoints/{reference}", "DELETE /v1/endpoints/{reference}", "GET /v1/hardware"),
    *("POST /v1/endpoints/{reference}/adapters", "GET /v1/endpoints/{reference}/adapters"),
    *("DELETE /v1/endpoints/{reference}/adapters", "GET /v1/clusters/availability-zones"),
}
"""Calls that the hosted original has, too."""
OURS = {
    *("lora_enabled", "visibility", "max_lora_rank", "engine", "auto_start", "quantization", "subfolder", "detach"),
    *("search", "sort", "limit", "offset", "status", "catalogue", "kind"),
}
"""Fields that it does not have."""
Json = dict[str, Any]


def _operations(document: Json) -> list[tuple[str, Json]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, operations in sorted(document["paths"].items())
        for method, operation in operations.items()
    ]


def calls(document: Json) -> str:
    rows = [
        (f"`{call}`", operation["summary"], "" if call in HOSTED else "ours")
        for call, operation in _operations(document)
    ]
    return _table(("call", "what it does", ""), rows)


def fields(document: Json) -> str:
    """Of queries and bodies, but those of the calls of models."""
    rows = []
    for call, operation in _operations(document):
        if operation.get("tags") == ["models"] and "completions" in call:
            continue
        found = {item["name"]: item["schema"] for item in operation.get("parameters", []) if item["in"] == "query"}
        required = set()
        for content in operation.get("requestBody", {}).get("content", {}).values():
            schema = _resolved(document, content["schema"])
            found |= schema.get("properties", {})
            required |= set(schema.get("required", ()))
        rows += [
            (f"`{call}`", f"`{name}`", _type(document, schema), _notes(call, name, required))
            for name, schema in found.items()
        ]
    return _table(("call", "field", "type", ""), rows)


def _notes(call: str, name: str, required: set[str]) -> str:
    ours = name in OURS or call not in HOSTED or (call, name) == ("POST /v1/endpoints", "type")
    return ", ".join(note for note, holds in (("required", name in required), ("ours", ours)) if holds)


def _resolved(document: Json, schema: Json) -> Json:
    name = schema.get("$ref", "").rpartition("/")[2]
    return document["components"]["schemas"][name] if name else schema


def _type(document: Json, schema: Json) -> str:
    if "anyOf" in schema:
        kinds = [_type(document, part) for part in schema["anyOf"]]
        return " or ".join(kind for kind in kinds if kind != "null")
    schema = _resolved(document, schema)
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "properties" in schema:
        return "object of " + ", ".join(f"`{name}`" for name in schema["properties"])
    return str(schema.get("type", "any"))


def parameters() -> str:
    """Of the calls of models, by what becomes of them."""
    rows = []
    for handling in Handling:
        names = sorted(name for name, known in PARAMETERS.items() if known.handling is handling)
        rows.append((handling.name.lower(), ", ".join(f"`{name}`" for name in names)))
    return _table(("what becomes of it", "parameters"), rows)


def written(page: str, document: Json | None = None) -> str:
    """The page with its tables made anew."""
    made = {
        "serve": lambda: options("serve"),
        "demo": lambda: options("demo"),
        "client": lambda: options("endpoints", "list"),
        "engine": engine_options,
        "calls": lambda: calls(document or {}),
        "fields": lambda: fields(document or {}),
        "parameters": parameters,
    }
    return _PART.sub(lambda part: part[1] + "\n" + made[part[2]]() + "\n" + part[3], page)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = RunningServer(Path(folder) / "data").start()
        try:
            with server.client() as http:
                document = http.get("/openapi.json").json()
        finally:
            server.stop()
    for name in ("configuration.md", "api.md"):
        page = DOCS / name
        page.write_text(written(page.read_text(), document))


if __name__ == "__main__":
    main()
