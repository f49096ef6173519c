"""What a request says about its tokens: what may not be sampled, what of them is shown, what becomes of the prompt."""

from dataclasses import dataclass

from loradock.engine.requests.fields import Fields
from loradock.types.errors import BadRequest

MAX_WORDS, MAX_WORD = 256, 256
_MOST = 10_000_000


@dataclass(frozen=True)
class OutputRules:
    """`min_tokens`: before these nothing ends the answer. `allowed` None: all tokens. `bad_words` never appear in the
    text. `keep_stop`: what ended the answer is part of it. `special`: special tokens are shown."""

    min_tokens: int = 0
    allowed: tuple[int, ...] | None = None
    bad_words: tuple[str, ...] = ()
    keep_stop: bool = False
    special: bool = False


DEFAULT_RULES = OutputRules()


@dataclass(frozen=True)
class PromptRules:
    """`special` None: as the route does. `keep`: no more than so many tokens of the prompt, -1 as many as fit; the
    last ones, or the first with `first`."""

    special: bool | None = None
    keep: int | None = None
    first: bool = False


def read_output_rules(fields: Fields, max_tokens: int | None) -> OutputRules:
    """Raises BadRequest."""
    least = fields.integer("min_tokens", 0, 0, _MOST)
    if max_tokens is not None and least > max_tokens:
        raise BadRequest(f"min_tokens is {least}, more than max_tokens, {max_tokens}", param="min_tokens")
    return OutputRules(
        min_tokens=least,
        allowed=_allowed(fields),
        bad_words=_bad_words(fields),
        keep_stop=fields.boolean("include_stop_str_in_output") or fields.boolean("no_stop_trim"),
        special=not fields.boolean("skip_special_tokens", default=True),
    )


def read_prompt_rules(fields: Fields) -> PromptRules:
    """Raises BadRequest."""
    keep = fields.integer("truncate_prompt_tokens", None, -1, _MOST)
    if keep == 0:
        raise fields.wrong("truncate_prompt_tokens", "an integer of at least 1, or -1 for as many as fit")
    return PromptRules(
        special=fields.boolean("add_special_tokens") if "add_special_tokens" in fields else None,
        keep=keep,
        first=fields.choice("truncation_side", "left", ("left", "right")) == "right",
    )


def _allowed(fields: Fields) -> tuple[int, ...] | None:
    if "allowed_token_ids" not in fields:
        return None
    tokens = fields.token_ids("allowed_token_ids")
    if not tokens:
        raise fields.wrong("allowed_token_ids", "a non-empty array of token ids")
    return tuple(tokens)


def _bad_words(fields: Fields) -> tuple[str, ...]:
    words = fields.array("bad_words")
    if len(words) > MAX_WORDS or not all(_is_word(word) for word in words):
        raise fields.wrong("bad_words", f"an array of up to {MAX_WORDS} strings of 1 to {MAX_WORD} characters")
    return tuple(word.lstrip(" ") for word in words)


def _is_word(word: object) -> bool:
    return isinstance(word, str) and bool(word.lstrip(" ")) and len(word) <= MAX_WORD
