"""One of a request's answers while it grows: it turns token events into text that is certain."""

from dataclasses import dataclass, field
from enum import StrEnum

from loradock.engine.core import FinishReason
from loradock.engine.generation.generation import TokenSampled
from loradock.engine.generation.logprobs import TokenLogprobs
from loradock.engine.text.detokenizer import Detokenizer
from loradock.engine.tool_calls.tools import ToolCall, ToolCallReader


class Finish(StrEnum):
    """EOS: the model ended its turn. STOP: a stop string or stop token of the request, or the end of a grammar."""

    EOS = "eos"
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class Token:
    """A token of the text, `logprobs` if they were asked for."""

    id: int
    logprobs: TokenLogprobs | None


@dataclass(slots=True)
class Delta:
    """The new part of a choice: text, the tokens behind it, complete tool calls, and at the end why it ended."""

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    finish: Finish | None = None


class Choice:
    """`prompt` is the number of the prompt it continues. `whole` is everything so far."""

    def __init__(
        self,
        index: int,
        prompt: int,
        seed: int,
        detokenizer: Detokenizer,
        eos_ids: frozenset[int],
        tools: ToolCallReader | None = None,
    ) -> None:
        self.index = index
        self.prompt = prompt
        self.seed = seed
        self._detokenizer = detokenizer
        self._eos_ids = eos_ids
        self._tools = tools
        self._pending: list[Token] = []
        self.whole = Delta()

    @property
    def finish(self) -> Finish | None:
        return self.whole.finish

    def feed(self, event: TokenSampled) -> Delta | None:
        """None while nothing is certain. A stop token is not part of the text, unless that was asked for."""
        text = ""
        if not event.stops or self._detokenizer.rules.keep_stop:
            self._pending.append(Token(event.token, event.logprobs))
            text = self._detokenizer.feed(event.token)
        return self._delta(text, self._reason(event))

    def end(self) -> Delta:
        """The choice ended without a token."""
        return self._delta("", Finish.LENGTH) or Delta(finish=Finish.LENGTH)

    def _reason(self, event: TokenSampled) -> Finish | None:
        if self._detokenizer.stopped:
            return Finish.STOP
        if event.finish is FinishReason.STOP:
            return Finish.EOS if event.token in self._eos_ids else Finish.STOP
        return Finish.LENGTH if event.finish is FinishReason.LENGTH else None

    def _delta(self, text: str, finish: Finish | None) -> Delta | None:
        if finish:
            text += self._detokenizer.flush()
            finish = Finish.STOP if self._detokenizer.stopped else finish
        calls: list[ToolCall] = []
        if self._tools:
            text, calls = self._tools.feed(text, final=finish is not None)
            if self._tools.done or (finish in (Finish.EOS, Finish.STOP) and self._tools.found):
                finish = Finish.TOOL_CALLS
        if not text and not calls and not finish:
            return None
        tokens, self._pending = self._pending, []
        self.whole.text += text
        self.whole.tokens += tokens
        self.whole.calls += calls
        self.whole.finish = finish
        return Delta(text, tokens, calls, finish)
