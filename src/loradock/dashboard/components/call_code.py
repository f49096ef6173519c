"""Code for a request from one's own program: curl, Python, TypeScript."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from loradock.dashboard.base_path import prefix_of

KEY = "<your API key>"


@dataclass(frozen=True, slots=True)
class Call:
    """`url` is the API's base with `/v1`; `options` are the sampling settings that were set."""

    url: str
    model: str
    messages: list[dict[str, str]]
    options: Mapping[str, float | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snippet:
    id: str
    label: str
    text: str


def api_url(request: Request) -> str:
    """The API's base address as the browser reaches it."""
    return f"{request.url.scheme}://{request.url.netloc}{prefix_of(request)}/v1"


def snippets(call: Call) -> list[Snippet]:
    return [
        Snippet("curl", "curl", _curl(call)),
        Snippet("together", "together", _python(call, "together", "Together")),
        Snippet("openai", "openai", _python(call, "openai", "OpenAI")),
        Snippet("typescript", "TypeScript", _typescript(call)),
    ]


def _curl(call: Call) -> str:
    body = {"model": call.model, "messages": call.messages, **call.options, "stream": True}
    quoted = json.dumps(body, ensure_ascii=False, indent=2).replace("'", "'\\''")
    return (
        f"curl -N {call.url}/chat/completions \\\n"
        f'  -H "Authorization: Bearer {KEY}" \\\n'
        f'  -H "Content-Type: application/json" \\\n'
        f"  -d '{quoted}'"
    )


def _python(call: Call, package: str, client: str) -> str:
    options = "".join(f"    {name}={value},\n" for name, value in call.options.items())
    return (
        f"from {package} import {client}\n\n"
        f"client = {client}(base_url={_literal(call.url)}, api_key={_literal(KEY)})\n"
        "stream = client.chat.completions.create(\n"
        f"    model={_literal(call.model)},\n"
        f"    messages=[\n{_messages(call, 8)}    ],\n"
        f"{options}"
        "    stream=True,\n"
        ")\n"
        "for chunk in stream:\n"
        "    if chunk.choices:\n"
        '        print(chunk.choices[0].delta.content or "", end="", flush=True)'
    )


def _typescript(call: Call) -> str:
    options = "".join(f"  {name}: {value},\n" for name, value in call.options.items())
    return (
        'import Together from "together-ai";\n\n'
        f"const client = new Together({{ baseURL: {_literal(call.url)}, apiKey: {_literal(KEY)} }});\n"
        "const stream = await client.chat.completions.create({\n"
        f"  model: {_literal(call.model)},\n"
        f"  messages: [\n{_messages(call, 4)}  ],\n"
        f"{options}"
        "  stream: true,\n"
        "});\n"
        "for await (const chunk of stream) {\n"
        '  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");\n'
        "}"
    )


def _messages(call: Call, indent: int) -> str:
    return "".join(f"{' ' * indent}{_literal(message)},\n" for message in call.messages)


def _literal(value: Any) -> str:
    """JSON, which Python and TypeScript both read."""
    return json.dumps(value, ensure_ascii=False)
