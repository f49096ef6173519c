"""`POST /v1/chat/completions`."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from loradock.engine.requests.generation import GenerationRequest, read_generation
from loradock.engine.requests.messages import Message, read_messages
from loradock.engine.requests.reading import Text, present, read
from loradock.types.enums import Dialect
from loradock.types.errors import BadRequest
from loradock.types.parameters import check

_Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
_Document = Annotated[dict[str, Any], Meta(description="an object {title, text}")]


# `gc`: as in messages.py.
class _Function(msgspec.Struct, gc=False):
    name: Text
    parameters: dict[str, Any] | None = None


class _Tool(msgspec.Struct, gc=False):
    """an object {type: 'function', function: {…}}"""

    type: Literal["function"]
    function: _Function


class _Choice(msgspec.Struct):
    """an object {type: 'function', function: {name}}"""

    function: _Function


class _Reasoning(msgspec.Struct):
    effort: _Effort | None = None
    enabled: bool | None = None
    max_tokens: Any = None
    exclude: Any = None


class _Ending(msgspec.Struct):
    """How the prompt ends, given as parameters or, as for transformers, among the template's."""

    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None


class _Asked(msgspec.Struct):
    tools: list[_Tool] = []
    tool_choice: Literal["none", "auto", "required"] | _Choice | None = None
    documents: list[_Document] | None = None
    reasoning: _Reasoning | None = None
    reasoning_effort: _Effort | None = None
    chat_template_kwargs: dict[str, Any] = {}
    chat_template: Text | None = None
    parallel_tool_calls: bool = True


class ChatRequest(msgspec.Struct, frozen=True):
    """`tools` None: no array of them was sent. `tool_choice`: none, auto, required, or (by `forced_tool`) one
    function's name. `opens`: the prompt ends with the head of a new answer; `continues`: it ends in the middle of the
    last message, which the answer continues. `chat_template`: the request's own. `one_call`: no more than one tool is
    to be called."""

    generation: GenerationRequest
    messages: list[Message]
    tools: list[dict[str, Any]] | None
    tool_choice: str
    forced_tool: str | None
    template_kwargs: dict[str, Any]
    opens: bool
    continues: bool
    chat_template: str | None
    one_call: bool


def read_chat(body: dict[str, Any], dialect: Dialect) -> ChatRequest:
    """Raises BadRequest."""
    warnings, given = check(body, chat=True), present(body)
    generation = read_generation(given, dialect, warnings, max_tokens=None, chat=True)
    asked: _Asked = read(_Asked, given)
    messages = read_messages(body)
    return ChatRequest(
        generation,
        messages,
        given.get("tools"),
        *_tool_choice(asked),
        _template_kwargs(asked),
        *_ending({**asked.chat_template_kwargs, **given}, messages),
        asked.chat_template,
        one_call=not asked.parallel_tool_calls,
    )


def _ending(given: dict[str, Any], messages: list[Message]) -> tuple[bool, bool]:
    """(opens, continues)."""
    ending: _Ending = read(_Ending, given)
    continues = bool(ending.continue_final_message)
    opens = not continues if ending.add_generation_prompt is None else ending.add_generation_prompt
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


def _tool_choice(asked: _Asked) -> tuple[str, str | None]:
    choice = asked.tool_choice
    if isinstance(choice, _Choice):
        name = choice.function.name
        if name not in [tool.function.name for tool in asked.tools]:
            raise BadRequest(f"tool_choice names {name!r}, which is not among the tools", param="tool_choice")
        return "required", name
    if choice == "required" and not asked.tools:
        raise BadRequest("tool_choice is 'required' but there are no tools", param="tool_choice")
    return choice or ("auto" if asked.tools else "none"), None


def _template_kwargs(asked: _Asked) -> dict[str, Any]:
    kwargs: dict[str, Any] = {} if asked.documents is None else {"documents": asked.documents}
    reasoning = asked.reasoning or _Reasoning()
    for name in ("max_tokens", "exclude"):
        if getattr(reasoning, name) not in (None, False):
            raise BadRequest(f"reasoning.{name} is not supported: leave it out", param=f"reasoning.{name}")
    effort = reasoning.effort or asked.reasoning_effort
    if effort is not None:
        kwargs["reasoning_effort"] = effort
    if asked.reasoning is not None:
        kwargs["enable_thinking"] = effort != "none" if reasoning.enabled is None else reasoning.enabled
    return kwargs | {n: v for n, v in asked.chat_template_kwargs.items() if n not in _Ending.__struct_fields__}
