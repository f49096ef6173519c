"""Chat templates that came with an adapter or a request: nothing of them runs in the engine's own process."""

from typing import Any

from jinja2 import TemplateError, nodes

from loradock.engine.text.chat import ChatTemplate, Message, environment
from loradock.engine.text.template_process import TemplateProcess
from loradock.types.errors import BadRequest

_LONGEST = 256 * 1024


class ForeignTemplate(ChatTemplate):
    """Raises BadRequest when the template text is broken, as far as that can be seen without compiling it."""

    def __init__(
        self, source: str, bos_token: str | None, eos_token: str | None, process: TemplateProcess | None = None
    ) -> None:
        self._process = process
        super().__init__(source, bos_token, eos_token)

    @classmethod
    def check(cls, source: str) -> None:
        """Raises BadRequest when the text is broken."""
        cls(source, None, None)

    def _read(self, source: str) -> set[str]:
        if len(source) > _LONGEST:
            raise BadRequest(f"the chat template has more than {_LONGEST // 1024} KiB", param="chat_template")
        # Only taken apart: Jinja computes constant expressions when it compiles.
        try:
            names = environment().parse(source).find_all(nodes.Name)
            return {name.name for name in names if name.ctx == "load"}
        except (TemplateError, RecursionError) as error:
            raise BadRequest(f"the chat template is broken: {error}", param="chat_template") from error

    def fill_in(self, messages: list[Message], tools: list[dict[str, Any]] | None, variables: dict[str, Any]) -> str:
        assert self._process is not None
        question = {"source": self._source, "messages": messages, "tools": tools, "variables": variables}
        return self._process.render(question)
