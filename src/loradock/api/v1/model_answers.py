"""The answers of `/v1/chat/completions` and `/v1/completions` when they do not stream, for `/openapi.json`.

The engines write them (engine/http/responses, and vLLM's own); nothing here is on a request's way.
"""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from loradock.api.unknown_fields import Warned

FinishReason = Literal["stop", "eos", "length", "tool_calls"]
"""`eos` is told to Together's clients only."""


class PromptTokensDetails(TypedDict):
    cached_tokens: int


class TokenUsage(TypedDict):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: NotRequired[PromptTokensDetails]


class TopLogprob(TypedDict):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class ContentLogprobs(TypedDict):
    """As OpenAI's clients ask for them with `logprobs: true`."""

    content: list[TokenLogprob]
    refusal: None


class ListedLogprobs(TypedDict):
    """As Together's clients and completions ask for them with a number; a list entry for each token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    token_ids: NotRequired[list[int]]
    text_offset: NotRequired[list[int]]
    top_logprobs: list[dict[str, float] | None]


class FunctionCall(TypedDict):
    """`arguments` are JSON as text."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    id: str
    type: Literal["function"]
    function: FunctionCall
    index: NotRequired[int]


class AssistantMessage(TypedDict):
    role: Literal["assistant"]
    content: str | None
    tool_calls: NotRequired[list[ToolCall]]
    refusal: NotRequired[None]


class EchoedPrompt(TypedDict):
    text: str
    logprobs: ListedLogprobs | None


class ChatChoice(TypedDict):
    index: int
    message: AssistantMessage
    finish_reason: FinishReason
    logprobs: ContentLogprobs | ListedLogprobs | None
    seed: NotRequired[int | None]


class CompletionChoice(TypedDict):
    index: int
    text: str
    finish_reason: FinishReason
    logprobs: ContentLogprobs | ListedLogprobs | None
    seed: NotRequired[int | None]


class ModelCall(Warned):
    """`prompt` for Together's clients: what `echo` asked for, else empty."""

    id: str
    created: int
    model: str
    usage: TokenUsage
    prompt: NotRequired[list[EchoedPrompt]]


class ChatCompletion(ModelCall):
    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class Completion(ModelCall):
    object: str
    """`text_completion`; `text.completion` for Together's clients."""
    choices: list[CompletionChoice]
