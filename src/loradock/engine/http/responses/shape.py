"""The common parts of the response shapes of both client families."""

from abc import ABC, abstractmethod
from typing import Any

from loradock.engine.generation.choice import Choice, Delta, Token
from loradock.engine.http.responses import logprobs
from loradock.engine.requests.generation import LogprobShape
from loradock.engine.service.request_state import Prompt, RequestState
from loradock.engine.text.tokens import TokenBytes

Json = dict[str, Any]


class ResponseFormat(ABC):
    """Renders one answer: as a whole, or as the chunks of a stream."""

    whole_object: str
    chunk_object: str
    prefix: str

    def __init__(self, answer: RequestState, names: TokenBytes) -> None:
        self.answer = answer
        self.names = names
        self._warned = False

    @abstractmethod
    def whole(self) -> Json:
        """The body of a response that is not streamed."""

    @abstractmethod
    def opening(self, choice: Choice) -> Json | None:
        """The chunk that goes before a choice's first text."""

    @abstractmethod
    def chunk(self, choice: Choice, delta: Delta) -> Json:
        """The chunk of a delta."""

    def closing(self) -> Json | None:
        """The last chunk: the usage, for those who asked for it."""
        if not self.answer.request.stream_options.include_usage:
            return None
        return {**self.head(self.chunk_object), "choices": [], "usage": self.usage()}

    def head(self, kind: str) -> Json:
        """Return the fields that every body begins with. The first body, in a stream the first chunk, carries the
        warnings."""
        answer = self.answer
        head = {
            "id": f"{self.prefix}-{answer.id}",
            "object": kind,
            "created": answer.created,
            "model": answer.request.model,
        }
        if answer.warnings and not self._warned:
            self._warned = True
            head["warnings"] = [{"message": text} for text in answer.warnings]
        return head

    def usage(self) -> Json:
        prompt = sum(len(prompt.ids) for prompt in self.answer.prompts)
        completion = self.answer.completion_tokens
        cached = sum(prompt.cached or 0 for prompt in self.answer.prompts)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        }

    def logprobs(self, tokens: list[Token]) -> Json | None:
        """Return the log-probabilities in the form that was asked for; None if they were not."""
        if self.answer.request.logprob_shape is None:
            return None
        if self.answer.request.logprob_shape is LogprobShape.CONTENT:
            return logprobs.content(tokens, self.names)
        return logprobs.lists(tokens, self.names)

    def prompt_of(self, choice: Choice) -> Prompt:
        return self.answer.prompts[choice.prompt]


def tool_calls(delta: Delta, first: int | None = None) -> list[Json]:
    """`first`: the index of the first call, which chunks need."""
    return [
        {
            **({} if first is None else {"index": first + i}),
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for i, call in enumerate(delta.calls)
    ]
