"""Tools that a request offers to the model, if its chat template can show them."""

from dataclasses import dataclass
from typing import Any

from loradock.engine.requests.chat import ChatRequest
from loradock.engine.requests.constraint import Constraint
from loradock.engine.text.chat import ChatTemplate
from loradock.engine.tool_calls.tool_forms import ToolForm
from loradock.engine.tool_calls.tools import ToolCallReader
from loradock.types.errors import BadRequest


@dataclass(frozen=True)
class Offer:
    """`form` is how the model writes calls; `constraint` is there when it must call a tool."""

    tools: list[dict[str, Any]]
    form: ToolForm
    constraint: Constraint | None
    one_call: bool

    def reader(self) -> ToolCallReader:
        names = frozenset(tool["function"]["name"] for tool in self.tools)
        return ToolCallReader(self.form, names, one=self.one_call)


def read_offer(request: ChatRequest, template: ChatTemplate) -> Offer | None:
    """None without tools. Raises BadRequest where they would have been dropped silently."""
    if not request.tools or request.tool_choice == "none":
        return None
    if not template.shows_tools:
        raise _no_tools("this model's chat template cannot offer tools")
    form = template.tool_form
    if form is None:
        raise _no_tools("this model's chat template has tools called in a form that is not known here")
    if request.tool_choice != "required":
        return Offer(request.tools, form, None, request.one_call)
    if request.generation.constraint is not None:
        raise BadRequest("response_format cannot be combined with a required tool call", param="response_format")
    forced = [tool for tool in request.tools if request.forced_tool in (None, tool["function"]["name"])]
    return Offer(request.tools, form, Constraint("tools", tools=tuple(forced), form=form), request.one_call)


def _no_tools(reason: str) -> BadRequest:
    advice = "leave tools out, set tool_choice to 'none', or use a model that was trained to call tools"
    known = "the forms of Qwen and Hermes, of Mistral and of Llama 3 are known"
    return BadRequest(f"{reason}: {advice} ({known})", param="tools")
