"""Chat templates: Jinja in a sandbox, with what transformers offers to templates."""

import json
from datetime import datetime
from functools import cached_property
from typing import Any, NoReturn

from jinja2 import TemplateError, meta, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from loradock.engine.tool_calls.tool_forms import ToolForm, form_of, with_ids
from loradock.types.errors import BadRequest

Message = dict[str, Any]
_PROBE = "probed_by_loradock"
_REASONING = ("reasoning_content", "thinking", "reasoning")
_CUT = "CONTINUE_FINAL_MESSAGE_TAG "
"""Marks the end of the message that is to be continued. The blank tells whether the template keeps blanks there."""


class ChatTemplate:
    """Raises BadRequest when the template text is broken."""

    def __init__(self, source: str, bos_token: str | None, eos_token: str | None) -> None:
        self._source = source
        self._tokens = {"bos_token": bos_token or "", "eos_token": eos_token or ""}
        self.variables = self._read(source)

    def _read(self, source: str) -> set[str]:
        """Compile it. Returns the names of what it asks for."""
        known = environment()
        try:
            self._template = known.from_string(source)
            return meta.find_undeclared_variables(known.parse(source))
        except (TemplateError, RecursionError) as error:
            raise BadRequest(f"the chat template is broken: {error}") from error

    @cached_property
    def shows_tools(self) -> bool:
        """Whether the tools of a request reach the prompt: tried, as templates differ in how they get at them."""
        function = {"name": _PROBE, "description": "Probe", "parameters": {"type": "object", "properties": {}}}
        tools = [{"type": "function", "function": function}]
        try:
            return _PROBE in self.render([{"role": "user", "content": "Hi"}], tools, {})
        except BadRequest:
            return False

    @cached_property
    def tool_form(self) -> ToolForm | None:
        """The way the calls of this model are written; None when that is not known."""
        return form_of(self._source)

    def render(
        self,
        messages: list[Message],
        tools: list[dict[str, Any]] | None,
        kwargs: dict[str, Any],
        *,
        opens: bool = True,
        continues: bool = False,
    ) -> str:
        """The prompt text, as transformers' `apply_chat_template` makes it. It ends with the head of the assistant's
        answer, or, when it `continues` the last message, with that. Raises BadRequest with the template's reason.
        """
        if "documents" in kwargs and "documents" not in self.variables:
            raise BadRequest("this model's chat template has no place for documents: put them in a message",
                             param="documents")  # fmt: skip
        variables = {"add_generation_prompt": opens, "documents": None, **self._tokens, **kwargs}
        messages = [_with_reasoning(message) for message in messages]
        if self.tool_form is not None:
            messages = [with_ids(message, self.tool_form.known_id) for message in messages]
        if continues:
            return self._open_ended(messages, tools, variables)
        return self.fill_in(messages, tools, variables)

    def fill_in(self, messages: list[Message], tools: list[dict[str, Any]] | None, variables: dict[str, Any]) -> str:
        """The template's text with just these variables. Raises BadRequest with the template's reason."""
        try:
            return self._template.render(messages=messages, tools=tools, **variables)
        # A template is a program: it can fail in any way on messages it was not written for.
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise BadRequest(
                f"the model's chat template does not take these messages: {reason}", param="messages"
            ) from error

    def _open_ended(self, messages: list[Message], tools: list[dict[str, Any]] | None, given: dict[str, Any]) -> str:
        *before, last = messages
        text = self.fill_in([*before, {**last, "content": last["content"] + _CUT}], tools, given)
        end = text.rfind(_CUT.strip())
        if end < 0 or last["content"].strip() not in text:
            raise BadRequest(
                "the model's chat template changes the last message, which therefore cannot be continued: leave"
                " continue_final_message out",
                param="continue_final_message",
            )
        return text[:end] if text.startswith(_CUT, end) else text[:end].rstrip()


def _with_reasoning(message: Message) -> Message:
    """Each template reads it under its own name: as transformers does, it is there under the usual ones."""
    reasoning = next((message[name] for name in _REASONING if message.get(name) is not None), None)
    return message if reasoning is None else {"thinking": reasoning, **message, "reasoning_content": reasoning}


class _Generation(Extension):
    """`{% generation %}` marks what the assistant wrote, for training; here it is transparent."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment() -> ImmutableSandboxedEnvironment:
    """Return an environment like transformers' `utils/chat_template_utils.py`, which templates are written against."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    made.filters["tojson"] = _to_json
    made.globals["raise_exception"] = _raise_exception
    made.globals["strftime_now"] = _strftime_now
    return made


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)
