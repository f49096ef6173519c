"""`POST /v1/completions`."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from loradock.engine.requests.generation import GenerationRequest, read_generation
from loradock.engine.requests.reading import TokenId, present, read, wrong
from loradock.types.enums import Dialect
from loradock.types.parameters import check

MAX_PROMPTS = 256
# OpenAI documents 16; Together documents none, and 16 would cut off most answers its users expect.
DEFAULT_MAX_TOKENS = {Dialect.OPENAI: 16, Dialect.TOGETHER: 512}
_PROMPT = f"a string, an array of token ids, or an array of up to {MAX_PROMPTS} of these"
_Tokens = Annotated[list[TokenId], Meta(min_length=1)]
_Prompt = Annotated[str | Annotated[list[str | TokenId | _Tokens], Meta(min_length=1)], Meta(description=_PROMPT)]


class _Asked(msgspec.Struct):
    prompt: _Prompt


class CompletionRequest(msgspec.Struct, frozen=True):
    """Each prompt is a text or token ids."""

    generation: GenerationRequest
    prompts: list[str | list[int]]


def read_completion(body: dict[str, Any], dialect: Dialect) -> CompletionRequest:
    """Raises BadRequest."""
    warnings = check(body, chat=False)
    generation = read_generation(present(body), dialect, warnings, max_tokens=DEFAULT_MAX_TOKENS[dialect], chat=False)
    return CompletionRequest(generation, _prompts(read(_Asked, body).prompt))


def _prompts(prompt: Any) -> list[str | list[int]]:
    if isinstance(prompt, str) or set(map(type, prompt)) == {int}:
        return [prompt]
    if len(prompt) > MAX_PROMPTS or int in map(type, prompt):
        raise wrong("prompt", prompt, _PROMPT)
    return list(prompt)
