"""The fields of a generation request, checked; both client families' spellings."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loradock.engine.core import SamplingParams
from loradock.types.errors import BadRequest

_MAX_LOGPROBS = 20
R = TypeVar("R", bound="GenerationRequest")


class StreamOptions(BaseModel):
    include_usage: bool | None = False


class ResponseFormat(BaseModel):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None


class GenerationRequest(BaseModel):
    """Fields that chat and completions share. Null means "not given", as the clients send it."""

    model_config = ConfigDict(extra="ignore", strict=False)

    model: str
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=5)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    n: Annotated[int, Field(ge=1, le=32)] | None = None
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    echo: bool | None = None
    logprobs: bool | Annotated[int, Field(ge=0, le=_MAX_LOGPROBS)] | None = None
    response_format: ResponseFormat | None = None
    ignore_eos: bool | None = None
    context_length_exceeded_behavior: Literal["truncate", "error"] | None = None

    @property
    def stop_strings(self) -> tuple[str, ...]:
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(text for text in stop if text)

    @property
    def top_logprobs_wanted(self) -> int | None:
        """How many alternatives per token; None when log probabilities are not wanted."""
        if self.logprobs is None or self.logprobs is False:
            return None
        return 0 if self.logprobs is True else int(self.logprobs)

    def sampling(self, max_tokens: int, choice: int) -> SamplingParams:
        return SamplingParams(
            max_tokens=max_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=self.top_p or 1.0,
            top_k=self.top_k or 0,
            min_p=self.min_p or 0.0,
            repetition_penalty=self.repetition_penalty or 1.0,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            seed=None if self.seed is None else self.seed + choice,
            logit_bias=self.logit_bias or {},
            logprobs=self.top_logprobs_wanted,
            prompt_logprobs=(self.top_logprobs_wanted if self.echo and choice == 0 else None),
            ignore_eos=bool(self.ignore_eos),
        )


class ChatRequest(GenerationRequest):
    messages: list[dict[str, Any]]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=_MAX_LOGPROBS)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None

    @property
    def top_logprobs_wanted(self) -> int | None:
        wanted = super().top_logprobs_wanted
        return self.top_logprobs or 0 if self.logprobs is True else wanted


class CompletionRequest(GenerationRequest):
    prompt: str | list[int] | list[str]

    @property
    def prompts(self) -> list[str | list[int]]:
        if isinstance(self.prompt, str):
            return [self.prompt]
        if all(isinstance(item, str) for item in self.prompt):
            return [str(item) for item in self.prompt]
        return [[int(token) for token in self.prompt]]


def parse(kind: type[R], body: bytes) -> R:
    """Raises BadRequest naming the first wrong field, what it was and what is allowed."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _bad_request(error) from error


def _bad_request(error: ValidationError) -> BadRequest:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("function-", "constrained-")))
    if first["type"] == "json_invalid":
        return BadRequest(f"the request body is not valid JSON: {first['msg']}")
    if first["type"] == "missing":
        return BadRequest(f"{field} is missing", param=field)
    return BadRequest(f"{field}: {first['msg']} (you sent {first['input']!r:.200})", param=field.split(".")[0])
