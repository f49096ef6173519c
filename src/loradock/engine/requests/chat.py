"""`POST /v1/chat/completions`."""

from dataclasses import dataclass
from typing import Any

from loradock.engine.requests.fields import Fields
from loradock.engine.requests.generation import GenerationRequest, read_generation
from loradock.engine.requests.messages import Message, read_messages
from loradock.types.enums import Dialect
from loradock.types.errors import BadRequest


@dataclass(frozen=True)
class ChatRequest:
    """`tool_choice`: none, auto, required, or (by `forced_tool`) one function's name."""

    generation: GenerationRequest
    messages: list[Message]
    tools: list[dict[str, Any]]
    tool_choice: str
    forced_tool: str | None
    template_kwargs: dict[str, Any]


def read_chat(body: dict[str, Any], dialect: Dialect) -> ChatRequest:
    """Raises BadRequest."""
    fields = Fields(body)
    _refuse_unsupported(fields)
    generation = read_generation(fields, dialect, max_tokens=None, chat=True)
    tools = [_tool(tool, f"tools[{i}].") for i, tool in enumerate(fields.array("tools"))]
    choice, forced = _tool_choice(fields, tools)
    return ChatRequest(generation, read_messages(fields), tools, choice, forced, _template_kwargs(fields))


def _refuse_unsupported(fields: Fields) -> None:
    if "functions" in fields or fields.raw("function_call") not in (None, "none", "auto"):
        raise BadRequest("functions and function_call are the retired form: send tools and tool_choice", param="tools")
    if "audio" in fields or "audio" in fields.array("modalities"):
        raise BadRequest("audio output is not supported: this server generates text", param="modalities")


def _tool(tool: Any, where: str) -> dict[str, Any]:
    if not isinstance(tool, dict):
        raise BadRequest(f"{where[:-1]} must be an object {{type: 'function', function: {{…}}}}", param=where[:-1])
    fields = Fields(tool, where)
    if fields.raw("type") != "function":
        raise fields.wrong("type", "'function'")
    function = fields.inner("function")
    function.string("name")
    function.mapping("parameters")
    return tool


def _tool_choice(fields: Fields, tools: list[dict[str, Any]]) -> tuple[str, str | None]:
    value = fields.raw("tool_choice")
    if isinstance(value, dict):
        name = fields.inner("tool_choice").inner("function").string("name")
        if name not in [tool["function"]["name"] for tool in tools]:
            raise BadRequest(f"tool_choice names {name!r}, which is not among the tools", param="tool_choice")
        return "required", name
    choice = fields.choice("tool_choice", "auto" if tools else "none", ("none", "auto", "required"))
    if choice == "required" and not tools:
        raise BadRequest("tool_choice is 'required' but there are no tools", param="tool_choice")
    return choice, None


def _template_kwargs(fields: Fields) -> dict[str, Any]:
    kwargs: dict[str, Any] = {}
    effort = fields.choice("reasoning_effort", None, ("none", "minimal", "low", "medium", "high", "xhigh"))
    if effort is not None:
        kwargs["reasoning_effort"] = effort
    if "reasoning" in fields:
        kwargs["enable_thinking"] = fields.inner("reasoning").boolean("enabled", default=True)
    return kwargs | fields.mapping("chat_template_kwargs")
