"""What chat and completion requests have in common: sampling, stopping, log probabilities, streaming."""

from dataclasses import dataclass
from enum import Enum, auto

from loradock.engine.core import SamplingParams
from loradock.engine.requests.constraint import Constraint, read_constraint
from loradock.engine.requests.fields import Fields
from loradock.engine.requests.rules import OutputRules, PromptRules, read_output_rules, read_prompt_rules
from loradock.types.enums import Dialect
from loradock.types.errors import BadRequest

MAX_CHOICES = 128
MAX_LOGPROBS = 20
MAX_STOPS = 16
_SEED_LIMIT = 2**63
_LONGEST_ID = 20
"""Digits; Python reads no number of more than 4300."""


class LogprobShape(Enum):
    """CONTENT: the chat shape of OpenAI (`logprobs: true`); LISTS: parallel lists (an integer `logprobs`)."""

    CONTENT = auto()
    LISTS = auto()


@dataclass(frozen=True)
class GenerationRequest:
    """A validated request. `max_tokens` None: the rest of the context."""

    model: str
    dialect: Dialect
    stream: bool
    include_usage: bool
    n: int
    max_tokens: int | None
    truncate: bool
    params: SamplingParams
    stop: tuple[str, ...]
    stop_token_ids: frozenset[int]
    echo: bool
    logprob_shape: LogprobShape | None
    constraint: Constraint | None
    output: OutputRules
    prompt: PromptRules
    warnings: tuple[str, ...]


def read_generation(
    fields: Fields, dialect: Dialect, warnings: list[str], *, max_tokens: int | None, chat: bool
) -> GenerationRequest:
    """`max_tokens` is the default. Raises BadRequest."""
    most = _max_tokens(fields, max_tokens, lowest=0 if fields.boolean("echo") and not chat else 1)
    shape, top = _logprobs(fields, chat=chat)
    echo = fields.boolean("echo")
    stream = fields.boolean("stream")
    return GenerationRequest(
        model=fields.string("model"),
        dialect=dialect,
        stream=stream,
        include_usage=fields.inner("stream_options").boolean("include_usage"),
        n=_choices(fields),
        max_tokens=most,
        truncate=fields.choice("context_length_exceeded_behavior", "error", ("truncate", "error")) == "truncate",
        params=_sampling(fields, top, echo=echo),
        stop=_stop(fields),
        stop_token_ids=frozenset(fields.token_ids("stop_token_ids")),
        echo=echo,
        logprob_shape=shape,
        constraint=read_constraint(fields),
        output=read_output_rules(fields, most),
        prompt=read_prompt_rules(fields),
        warnings=tuple(warnings),
    )


def _choices(fields: Fields) -> int:
    n = fields.integer("n", 1, 1, MAX_CHOICES)
    if fields.integer("best_of", n, 1, MAX_CHOICES) != n:
        raise BadRequest("best_of is not supported beyond n: leave it out", param="best_of")
    return n


def _max_tokens(fields: Fields, default: int | None, lowest: int) -> int | None:
    name = "max_completion_tokens" if "max_completion_tokens" in fields else "max_tokens"
    return fields.integer(name, default, lowest, 10_000_000)


def _sampling(fields: Fields, logprobs: int | None, *, echo: bool) -> SamplingParams:
    repetition = fields.number("repetition_penalty", 1.0, 0, 10)
    if repetition == 0:
        raise fields.wrong("repetition_penalty", "a number above 0, up to 10")
    return SamplingParams(
        temperature=fields.number("temperature", 1.0, 0, 2),
        top_p=fields.number("top_p", 1.0, 0, 1),
        top_k=fields.integer("top_k", 0, -1, 10_000_000),
        min_p=fields.number("min_p", 0.0, 0, 1),
        repetition_penalty=repetition,
        presence_penalty=fields.number("presence_penalty", 0.0, -2, 2),
        frequency_penalty=fields.number("frequency_penalty", 0.0, -2, 2),
        seed=fields.integer("seed", None, -_SEED_LIMIT, 2 * _SEED_LIMIT - 1),
        logit_bias=_logit_bias(fields),
        logprobs=logprobs,
        prompt_logprobs=logprobs if echo else None,
        ignore_eos=fields.boolean("ignore_eos"),
    )


def _logit_bias(fields: Fields) -> dict[int, float]:
    inner = fields.inner("logit_bias")
    names = fields.mapping("logit_bias")
    for name in names:
        if not name.isdecimal() or len(name) > _LONGEST_ID:
            raise BadRequest(f"logit_bias keys must be token ids, not {name[:40]!r}", param="logit_bias")
    return {int(name): inner.number(name, 0.0, -100, 100) for name in names}


def _logprobs(fields: Fields, *, chat: bool) -> tuple[LogprobShape | None, int | None]:
    """(shape, how many alternatives per token)."""
    value = fields.raw("logprobs")
    top = fields.integer("top_logprobs", None, 0, MAX_LOGPROBS)
    if value is None or value is False:
        if top:
            raise BadRequest("top_logprobs needs logprobs: true", param="top_logprobs")
        return None, None
    if value is True:
        if not chat:
            raise fields.wrong("logprobs", f"an integer from 0 to {MAX_LOGPROBS}")
        return LogprobShape.CONTENT, top or 0
    return LogprobShape.LISTS, fields.integer("logprobs", 0, 0, MAX_LOGPROBS)


def _stop(fields: Fields) -> tuple[str, ...]:
    value = fields.raw("stop")
    stops = [value] if isinstance(value, str) else value if value is not None else []
    if not isinstance(stops, list) or len(stops) > MAX_STOPS or not all(isinstance(s, str) and s for s in stops):
        raise fields.wrong("stop", f"a non-empty string or an array of up to {MAX_STOPS} of them")
    return tuple(stops)
