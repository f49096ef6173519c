"""A sequence on its way through the compute thread, and the events it sends back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loradock.engine.core import FinishReason, Sequence
from loradock.engine.generation.logprobs import TokenLogprobs
from loradock.engine.generation.restrictions import Restrictions
from loradock.types.errors import LoradockError

if TYPE_CHECKING:
    from loradock.engine.structured_output.grammar import Grammar


@dataclass(frozen=True, slots=True)
class PromptComputed:
    """`cached` of the prompt's tokens came from the prefix cache. `logprobs[i]` belongs to prompt token `i + 1`."""

    cached: int
    logprobs: list[TokenLogprobs]


@dataclass(frozen=True, slots=True)
class TokenSampled:
    """`finish` comes with the last token; `stops`: it is an end-of-sequence or stop token, no part of the text."""

    token: int
    logprobs: TokenLogprobs | None
    finish: FinishReason | None
    stops: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event of a generation: it ended by `error`, or no token was asked for."""

    error: LoradockError | None = None


Event = PromptComputed | TokenSampled | Ended


@dataclass(slots=True, eq=False)
class Generation:
    """`send` is called on the event loop's thread. `stop_tokens` end the sequence."""

    sequence: Sequence
    send: Callable[[Event], None]
    stop_tokens: frozenset[int]
    grammar: "Grammar | None" = None
    restrictions: Restrictions | None = None
    cached: int | None = None
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
