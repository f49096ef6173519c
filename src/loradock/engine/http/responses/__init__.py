"""Response bodies in the shapes of the two client families."""

from loradock.engine.http.responses.openai import OpenAIChat, OpenAICompletion
from loradock.engine.http.responses.shape import ResponseFormat
from loradock.engine.http.responses.together import TogetherChat, TogetherCompletion
from loradock.engine.service.request_state import RequestState
from loradock.engine.text.tokens import TokenBytes
from loradock.types.enums import Dialect

_SHAPES: dict[tuple[Dialect, bool], type[ResponseFormat]] = {
    (Dialect.OPENAI, True): OpenAIChat,
    (Dialect.OPENAI, False): OpenAICompletion,
    (Dialect.TOGETHER, True): TogetherChat,
    (Dialect.TOGETHER, False): TogetherCompletion,
}


def shape_of(answer: RequestState, names: TokenBytes, *, chat: bool) -> ResponseFormat:
    return _SHAPES[answer.request.dialect, chat](answer, names)
