"""The messages of a chat request, brought to the form chat templates expect."""

from typing import Any

from loradock.engine.requests.fields import Fields, object_in
from loradock.types.errors import BadRequest

Message = dict[str, Any]

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_KEPT = ("name", "tool_call_id", "reasoning_content", "thinking", "reasoning")


def read_messages(fields: Fields) -> list[Message]:
    """Raises BadRequest."""
    messages = fields.raw("messages")
    if not isinstance(messages, list) or not messages:
        raise fields.wrong("messages", "a non-empty array")
    return [_message(message, f"messages[{i}].") for i, message in enumerate(messages)]


def _message(message: Any, where: str) -> Message:
    if not isinstance(message, dict):
        raise BadRequest(f"{where[:-1]} must be an object {{role, content}}", param=where[:-1])
    fields = Fields(message, where)
    if "role" not in fields:
        raise fields.wrong("role", "one of " + ", ".join(map(repr, ROLES)))
    role = fields.choice("role", "user", ROLES)
    read: Message = {"role": "system" if role == "developer" else role, "content": _content(fields, role, where)}
    read |= {name: message[name] for name in _KEPT if isinstance(message.get(name), str)}
    if fields.array("tool_calls"):  # templates take an empty array for calls
        read["tool_calls"] = [_tool_call(call, f"{where}tool_calls[{i}].") for i, call in _calls(fields)]
    return read


def _calls(fields: Fields) -> list[tuple[int, Any]]:
    return list(enumerate(fields.array("tool_calls")))


def _content(fields: Fields, role: str, where: str) -> str:
    content = fields.raw("content")
    if content is None and role == "assistant":
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise fields.wrong("content", "a string or an array of text parts")
    return "\n".join(_part(part, f"{where}content[{i}]") for i, part in enumerate(content))


def _part(part: Any, where: str) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, str) and kind != "text":
        raise BadRequest(f"{where} is a part of type {kind!r}: this model reads only text parts", param=where)
    raise BadRequest(f"{where} must be {{type: 'text', text: <string>}}", param=where)


def _tool_call(call: Any, where: str) -> dict[str, Any]:
    """Templates write the arguments out themselves, so they get the object, not its JSON text."""
    if not isinstance(call, dict):
        raise BadRequest(f"{where[:-1]} must be an object", param=where[:-1])
    function = Fields(call, where).inner("function")
    name, arguments = function.string("name"), function.raw("arguments")
    if isinstance(arguments, str):
        arguments = object_in(arguments or "{}")
        if arguments is None:
            raise function.wrong("arguments", "a JSON object as text")
    return {"id": call.get("id"), "type": "function", "function": {"name": name, "arguments": arguments or {}}}
