"""Response bodies in the shapes of the two client families."""

from loradock.engine.http.responses.openai import OpenAIChat, OpenAICompletion
from loradock.engine.http.responses.shape import Shape
from loradock.engine.http.responses.together import TogetherChat, TogetherCompletion
from loradock.engine.service.request_state import Answer
from loradock.engine.text.tokens import TokenBytes
from loradock.types.enums import Dialect

_SHAPES: dict[tuple[Dialect, bool], type[Shape]] = {
    (Dialect.OPENAI, True): OpenAIChat,
    (Dialect.OPENAI, False): OpenAICompletion,
    (Dialect.TOGETHER, True): TogetherChat,
    (Dialect.TOGETHER, False): TogetherCompletion,
}


def shape_of(answer: Answer, names: TokenBytes, *, chat: bool) -> Shape:
    return _SHAPES[answer.request.dialect, chat](answer, names)
