"""The messages of a chat request, brought to the form chat templates expect."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta

from loradock.engine.requests.reading import Text, object_in, read, wrong

Message = dict[str, Any]

_KEPT = ("name", "tool_call_id", "reasoning_content", "thinking", "reasoning")


# A body may have many of these, none in a circle: without `gc` no collection of garbage walks through them.
class _Part(msgspec.Struct, gc=False):
    type: Annotated[Literal["text"], Meta(description="'text', the only kind that this model reads")]
    text: str


class _Function(msgspec.Struct, gc=False):
    name: Text
    arguments: Any = None


class _ToolCall(msgspec.Struct, gc=False):
    function: _Function
    id: Any = None


class _Sent(msgspec.Struct, gc=False):
    """an object {role, content}"""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[_Part], Meta(description="an array of text parts")] | None = None
    tool_calls: list[_ToolCall] | None = None


class _Asked(msgspec.Struct):
    messages: Annotated[list[_Sent], Meta(min_length=1)]


def read_messages(body: dict[str, Any]) -> list[Message]:
    """Raises BadRequest."""
    sent: list[_Sent] = read(_Asked, body).messages
    return [_message(message, sent[index], index) for index, message in enumerate(body["messages"])]


def _message(message: dict[str, Any], sent: _Sent, index: int) -> Message:
    role = "system" if sent.role == "developer" else sent.role
    made: Message = {"role": role, "content": _content(message, sent, index)}
    made |= {name: value for name, value in message.items() if name in _KEPT and isinstance(value, str)}
    if sent.tool_calls:  # templates take an empty array for calls
        path = f"messages[{index}].tool_calls"
        made["tool_calls"] = [_tool_call(call, f"{path}[{i}]") for i, call in enumerate(sent.tool_calls)]
    return made


def _content(message: dict[str, Any], sent: _Sent, index: int) -> str:
    if isinstance(sent.content, str):
        return sent.content
    if sent.content is None and sent.role != "assistant":
        allowed = "a string or an array of text parts"
        raise wrong(f"messages[{index}].content", message.get("content", UNSET), allowed)
    return "\n".join(part.text for part in sent.content or ())


def _tool_call(call: _ToolCall, path: str) -> dict[str, Any]:
    """Templates write the arguments out themselves, so they get the object, not its JSON text."""
    arguments = call.function.arguments
    if isinstance(arguments, str):
        arguments = object_in(arguments or "{}")
        if arguments is None:
            raise wrong(f"{path}.function.arguments", call.function.arguments, "a JSON object as text")
    return {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": arguments or {}}}
