"""The common parts of chat and completion requests: sampling, stopping, log probabilities, streaming."""

from enum import Enum, auto
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from loradock.engine.core import MOST_TOKENS, SEED, SEEDS, SamplingParams
from loradock.engine.requests.constraint import Constraint, read_constraint
from loradock.engine.requests.reading import Text, TokenId, read, wrong
from loradock.engine.requests.rules import OutputRules, PromptRules, read_output_rules
from loradock.types.enums import Dialect
from loradock.types.errors import BadRequest

MAX_CHOICES = 128
MAX_LOGPROBS = 20
MAX_STOPS = 16
_LONGEST_ID = 20
"""Digits; Python reads no number of more than 4300."""

_Choices = Annotated[int, Meta(ge=1, le=MAX_CHOICES)]
_LOGPROBS = f"an integer from 0 to {MAX_LOGPROBS}"
_Logprobs = Annotated[int, Meta(ge=0, le=MAX_LOGPROBS)]
_MAX_TOKENS = {lowest: Annotated[int, Meta(ge=lowest, le=MOST_TOKENS)] for lowest in (0, 1)}
_STOP = f"a non-empty string or an array of up to {MAX_STOPS} of them"


class LogprobShape(Enum):
    """CONTENT: the chat shape of OpenAI (`logprobs: true`); LISTS: parallel lists (an integer `logprobs`)."""

    CONTENT = auto()
    LISTS = auto()


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class _Sent(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters as they were sent."""

    model: Text
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    n: _Choices = 1
    best_of: _Choices | None = None
    echo: bool = False
    logprobs: Annotated[bool | _Logprobs, Meta(description=_LOGPROBS)] = False
    top_logprobs: _Logprobs = 0
    context_length_exceeded_behavior: Literal["truncate", "error"] = "error"
    stop: Annotated[tuple[Text, ...], Meta(max_length=MAX_STOPS, description=_STOP)] = ()
    stop_token_ids: Annotated[frozenset[TokenId], Meta(description="an array of token ids")] = frozenset()


class GenerationRequest(_Sent, frozen=True, kw_only=True):
    """The same with what follows from it. `max_tokens` None: the rest of the context."""

    dialect: Dialect
    max_tokens: int | None
    params: SamplingParams
    logprob_shape: LogprobShape | None
    constraint: Constraint | None
    output: OutputRules
    prompt: PromptRules
    warnings: list[str]


def read_generation(
    given: dict[str, Any], dialect: Dialect, warnings: list[str], *, max_tokens: int | None, chat: bool
) -> GenerationRequest:
    """`max_tokens` is the default. Raises BadRequest."""
    stop = given.get("stop")
    sent = read(_Sent, {**given, "stop": [stop]} if stop and isinstance(stop, str) else given)
    if sent.best_of not in (None, sent.n):
        raise BadRequest("best_of is not supported beyond n: leave it out", param="best_of")
    most = _max_tokens(given, max_tokens, lowest=0 if sent.echo and not chat else 1)
    shape, top = _logprobs(sent, chat=chat)
    return GenerationRequest(
        **msgspec.structs.asdict(sent),
        dialect=dialect,
        max_tokens=most,
        params=_sampling(given, top, echo=sent.echo),
        logprob_shape=shape,
        constraint=read_constraint(given),
        output=read_output_rules(given, most),
        prompt=read(PromptRules, given),
        warnings=warnings,
    )


def _max_tokens(given: dict[str, Any], default: int | None, lowest: int) -> int | None:
    name = "max_completion_tokens" if "max_completion_tokens" in given else "max_tokens"
    return read(_MAX_TOKENS[lowest], given[name], name) if name in given else default


def _logprobs(sent: _Sent, *, chat: bool) -> tuple[LogprobShape | None, int | None]:
    """(shape, how many alternatives per token)."""
    if sent.logprobs is False:
        if sent.top_logprobs:
            raise BadRequest("top_logprobs needs logprobs: true", param="top_logprobs")
        return None, None
    if sent.logprobs is not True:
        return LogprobShape.LISTS, sent.logprobs
    if not chat:
        raise wrong("logprobs", True, _LOGPROBS)
    return LogprobShape.CONTENT, sent.top_logprobs


def _sampling(given: dict[str, Any], logprobs: int | None, *, echo: bool) -> SamplingParams:
    # These mean something else in a body.
    asked = {**given, "max_tokens": 0, "logprobs": logprobs, "prompt_logprobs": logprobs if echo else None}
    if isinstance(biases := given.get("logit_bias"), dict):
        asked["logit_bias"] = {_token_id(name): 0 if bias is None else bias for name, bias in biases.items()}
    params: SamplingParams = read(SamplingParams, asked)
    if params.seed is not None and params.seed not in SEEDS:  # msgspec's own bounds end at 2**63
        raise wrong("seed", given["seed"], SEED)
    return params


def _token_id(name: str) -> int:
    if not name.isdecimal() or len(name) > _LONGEST_ID:
        raise BadRequest(f"logit_bias keys must be token ids, not {name[:40]!r}", param="logit_bias")
    return int(name)
