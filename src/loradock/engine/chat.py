"""Chat templates: Jinja in a sandbox, with what transformers offers to templates."""

import json
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, meta, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from loradock.types.errors import BadRequest

_TOOL_CALL_TAG = "<tool_call>"


class ChatTemplate:
    """Raises BadRequest when the template text is broken."""

    def __init__(self, source: str, bos_token: str | None, eos_token: str | None) -> None:
        environment = _environment()
        try:
            self._template = environment.from_string(source)
            variables = meta.find_undeclared_variables(environment.parse(source))
        except TemplateError as error:
            raise BadRequest(f"the chat template is broken: {error}") from error
        self._tokens = {"bos_token": bos_token or "", "eos_token": eos_token or ""}
        self.takes_tools = "tools" in variables and _TOOL_CALL_TAG in source
        """Whether tools can be offered and calls read back (the `<tool_call>` JSON form of Hermes and Qwen)."""

    def render(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]], kwargs: dict[str, Any]) -> str:
        """The prompt text, ending where the assistant's answer begins. Raises BadRequest with the template's reason."""
        variables = {"add_generation_prompt": True, **self._tokens, **kwargs}
        try:
            return self._template.render(messages=messages, tools=tools or None, **variables)
        # A template is a program: it can fail in any way on messages it was not written for.
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise BadRequest(
                f"the model's chat template does not take these messages: {reason}", param="messages"
            ) from error


class _Generation(Extension):
    """`{% generation %}` marks what the assistant wrote, for training; here it is transparent."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    """As in transformers' `utils/chat_template_utils.py`, which templates are written against."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)
