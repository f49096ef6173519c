"""The rules of a request about its tokens: what may not be sampled, what of them is shown, what becomes of the
prompt."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from loradock.engine.core import MOST_TOKENS
from loradock.engine.requests.reading import TokenId, read, wrong
from loradock.types.errors import BadRequest

MAX_WORDS, MAX_WORD = 256, 256

_SomeIds = Annotated[frozenset[TokenId], Meta(min_length=1, description="a non-empty array of token ids")]
_Word = Annotated[str, Meta(pattern="[^ ]", max_length=MAX_WORD)]
_WORDS = f"an array of up to {MAX_WORDS} strings of 1 to {MAX_WORD} characters"
_KEEP = "an integer of at least 1, or -1 for as many as fit"


class OutputRules(msgspec.Struct, frozen=True):
    """`min_tokens`: before these nothing ends the answer. `allowed` None: all tokens. `bad_words` never appear in the
    text. `keep_stop`: what ended the answer is part of it."""

    min_tokens: Annotated[int, Meta(ge=0, le=MOST_TOKENS)] = 0
    allowed: _SomeIds | None = field(name="allowed_token_ids", default=None)
    bad_words: Annotated[tuple[_Word, ...], Meta(max_length=MAX_WORDS, description=_WORDS)] = ()
    include_stop_str_in_output: bool = False
    no_stop_trim: bool = False
    skip_special_tokens: bool = True

    @property
    def keep_stop(self) -> bool:
        return self.include_stop_str_in_output or self.no_stop_trim


DEFAULT_RULES = OutputRules()


class PromptRules(msgspec.Struct, frozen=True):
    """`special` None: as the route does. `keep`: no more than so many tokens of the prompt, -1 as many as fit; the
    last ones, or the first with `first`."""

    special: bool | None = field(name="add_special_tokens", default=None)
    keep: Annotated[int, Meta(ge=-1, le=MOST_TOKENS, description=_KEEP)] | None = field(
        name="truncate_prompt_tokens", default=None
    )
    truncation_side: Literal["left", "right"] = "left"

    def __post_init__(self) -> None:
        if self.keep == 0:
            raise wrong("truncate_prompt_tokens", 0, _KEEP)

    @property
    def first(self) -> bool:
        return self.truncation_side == "right"


def read_output_rules(given: dict[str, Any], max_tokens: int | None) -> OutputRules:
    """Raises BadRequest."""
    rules: OutputRules = read(OutputRules, given)
    if max_tokens is not None and rules.min_tokens > max_tokens:
        raise BadRequest(f"min_tokens is {rules.min_tokens}, more than max_tokens, {max_tokens}", param="min_tokens")
    return rules
