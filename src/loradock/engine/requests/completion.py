"""`POST /v1/completions`."""

from dataclasses import dataclass
from typing import Any

from loradock.engine.requests.fields import Fields
from loradock.engine.requests.generation import GenerationRequest, read_generation
from loradock.types.enums import Dialect
from loradock.types.parameters import check

MAX_PROMPTS = 256
# OpenAI documents 16; Together documents none, and 16 would cut off most answers its users expect.
DEFAULT_MAX_TOKENS = {Dialect.OPENAI: 16, Dialect.TOGETHER: 512}


@dataclass(frozen=True)
class CompletionRequest:
    """Each prompt is a text or token ids."""

    generation: GenerationRequest
    prompts: list[str | list[int]]


def read_completion(body: dict[str, Any], dialect: Dialect) -> CompletionRequest:
    """Raises BadRequest."""
    fields = Fields(body)
    generation = read_generation(
        fields, dialect, check(body, chat=False), max_tokens=DEFAULT_MAX_TOKENS[dialect], chat=False
    )
    return CompletionRequest(generation, _prompts(fields))


def _prompts(fields: Fields) -> list[str | list[int]]:
    value = fields.raw("prompt")
    prompts = value if isinstance(value, list) and value and not _is_tokens(value) else [value]
    if len(prompts) > MAX_PROMPTS or not all(isinstance(p, str) or _is_tokens(p) for p in prompts):
        raise fields.wrong("prompt", f"a string, an array of token ids, or an array of up to {MAX_PROMPTS} of these")
    return prompts


def _is_tokens(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in value)
    )
