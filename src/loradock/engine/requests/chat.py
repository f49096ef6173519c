"""`POST /v1/chat/completions`."""

from dataclasses import dataclass
from typing import Any

from loradock.engine.requests.fields import Fields
from loradock.engine.requests.generation import GenerationRequest, read_generation
from loradock.engine.requests.messages import Message, read_messages
from loradock.types.enums import Dialect
from loradock.types.errors import BadRequest
from loradock.types.parameters import check

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_ENDINGS = ("add_generation_prompt", "continue_final_message")


@dataclass(frozen=True)
class ChatRequest:
    """`tool_choice`: none, auto, required, or (by `forced_tool`) one function's name. `opens`: the prompt ends with
    the head of a new answer; `continues`: it ends in the middle of the last message, which the answer continues.
    `chat_template`: the request's own. `one_call`: no more than one tool is to be called."""

    generation: GenerationRequest
    messages: list[Message]
    tools: list[dict[str, Any]]
    tool_choice: str
    forced_tool: str | None
    template_kwargs: dict[str, Any]
    opens: bool = True
    continues: bool = False
    empty_tools: bool = False
    chat_template: str | None = None
    one_call: bool = False


def read_chat(body: dict[str, Any], dialect: Dialect) -> ChatRequest:
    """Raises BadRequest."""
    fields = Fields(body)
    generation = read_generation(fields, dialect, check(body, chat=True), max_tokens=None, chat=True)
    tools = [_tool(tool, f"tools[{i}].") for i, tool in enumerate(fields.array("tools"))]
    choice, forced = _tool_choice(fields, tools)
    messages, kwargs = read_messages(fields), _template_kwargs(fields)
    opens, continues = _ending(fields, messages)
    template = fields.string("chat_template") if fields.raw("chat_template") is not None else None
    return ChatRequest(
        generation,
        messages,
        tools,
        choice,
        forced,
        kwargs,
        opens,
        continues,
        empty_tools=fields.raw("tools") == [],
        chat_template=template,
        one_call=not fields.boolean("parallel_tool_calls", default=True),
    )


def _ending(fields: Fields, messages: list[Message]) -> tuple[bool, bool]:
    """(opens, continues), given as parameters or, as for transformers, among the template's."""
    given = Fields({**fields.mapping("chat_template_kwargs"), **_given(fields, *_ENDINGS)})
    continues = given.boolean("continue_final_message")
    opens = given.boolean("add_generation_prompt", default=not continues)
    if continues and opens:
        raise BadRequest(
            "continue_final_message and add_generation_prompt cannot both be true: the answer continues the last"
            " message or begins a new one",
            param="continue_final_message",
        )
    if continues and messages[-1]["role"] != "assistant":
        raise BadRequest(
            f"continue_final_message needs a last message of the assistant, not of role {messages[-1]['role']!r}",
            param="continue_final_message",
        )
    return opens, continues


def _given(fields: Fields, *names: str) -> dict[str, Any]:
    return {name: fields.raw(name) for name in names if name in fields}


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
    kwargs = _given(fields, "documents")
    if not all(isinstance(document, dict) for document in fields.array("documents")):
        raise fields.wrong("documents", "an array of objects {title, text}")
    reasoning = fields.inner("reasoning")
    for name in ("max_tokens", "exclude"):
        if reasoning.raw(name) not in (None, False):
            raise BadRequest(f"reasoning.{name} is not supported: leave it out", param=f"reasoning.{name}")
    effort = reasoning.choice("effort", None, _EFFORTS) or fields.choice("reasoning_effort", None, _EFFORTS)
    if effort is not None:
        kwargs["reasoning_effort"] = effort
    if "reasoning" in fields:
        kwargs["enable_thinking"] = reasoning.boolean("enabled", default=effort != "none")
    given = fields.mapping("chat_template_kwargs")
    return kwargs | {name: value for name, value in given.items() if name not in _ENDINGS}
