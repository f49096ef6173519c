"""Chat templates, rendered in a sandbox with the names that Hugging Face templates expect."""

import json
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from loradock.types.errors import BadRequest

Message = dict[str, Any]


class ChatTemplate:
    """Raises BadRequest from `render` when the template refuses the messages."""

    def __init__(self, source: str | None, bos_token: str | None, eos_token: str | None) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
        self._template = environment.from_string(source) if source else None
        self._tokens = {"bos_token": bos_token or "", "eos_token": eos_token or ""}

    def render(self, messages: list[Message], options: dict[str, Any]) -> str:
        """The prompt that asks the assistant to speak next."""
        if self._template is None:
            raise BadRequest("this base model has no chat template; use /v1/completions")
        try:
            return self._template.render(messages=messages, add_generation_prompt=True, **{**self._tokens, **options})
        except (TemplateError, TypeError, ValueError) as error:
            raise BadRequest(f"the chat template refuses these messages: {error}", param="messages") from error


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def plain_messages(messages: list[Message]) -> list[Message]:
    """Messages whose content parts are joined to text. Raises BadRequest for parts that are not text."""
    if not messages:
        raise BadRequest("messages is empty: send at least one message", param="messages")
    return [{**message, "content": _text(message.get("content"))} for message in messages]


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(_part(part) for part in content)
    if content is None or isinstance(content, str):
        return content or ""
    raise BadRequest("a message's content must be a string or a list of text parts", param="messages")


def _part(part: Any) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    raise BadRequest(f"content part {kind!r} is not served: this is a text model, send text parts", param="messages")
