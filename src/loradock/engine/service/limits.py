"""The limits of one request."""

from collections.abc import Iterable
from dataclasses import dataclass

from loradock.engine.errors import ContextExceeded
from loradock.engine.requests.generation import GenerationRequest
from loradock.types.errors import BadRequest


@dataclass(frozen=True)
class Limits:
    """`context` in tokens; `waiting` sequences may queue."""

    context: int
    vocabulary: int
    running: int
    waiting: int

    def check_vocabulary(self, tokens: Iterable[int], param: str) -> None:
        """A tokenizer may know more than its model. Raises BadRequest."""
        if outside := [token for token in tokens if token >= self.vocabulary]:
            message = f"{param}: token id {outside[0]} is not below the vocabulary's {self.vocabulary}"
            raise BadRequest(message, param=param)

    def room(self, request: GenerationRequest, prompt: int, param: str) -> int:
        """Return how many tokens may be generated behind so many of the prompt. Raises ContextExceeded with the
        numbers, whose first words clients know it by."""
        room = self.context - prompt
        words = f"this model's maximum context length is {self.context} tokens"
        if prompt == 0:
            raise BadRequest("the prompt is empty: send at least one token", param="prompt")
        if room < 1:
            raise ContextExceeded(
                f"{words}: the prompt has {prompt} tokens, and a context of {self.context} tokens must hold it and at"
                " least one more. Shorten the prompt",
                param=param,
            )
        wanted = room if request.max_tokens is None else request.max_tokens
        if wanted <= room or request.context_length_exceeded_behavior == "truncate":
            return min(wanted, room)
        raise ContextExceeded(
            f"{words}: the prompt has {prompt} tokens and max_tokens is {wanted}, together {prompt + wanted}, more"
            f" than a context of {self.context} tokens. Lower max_tokens to {room} or shorten the prompt",
            param="max_tokens",
        )
