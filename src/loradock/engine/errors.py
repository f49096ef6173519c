"""Errors that only the engine knows."""

from loradock.types.errors import BadRequest, Internal, NotFound, Unavailable


class UnknownModel(NotFound):
    """The model {name!r} is not served here; `GET /v1/models` lists what is."""

    code = "model_not_found"


class AdapterUnreadable(Unavailable):
    """The adapter {name!r} cannot be read from this engine's disk: {reason}"""


class ContextExceeded(BadRequest):
    """The request does not fit the model's context."""

    code = "context_length_exceeded"


class PromptTooLong(ContextExceeded):
    """this model's maximum context length is {context} tokens, but the prompt has {count}: shorten the prompt"""


class StillLoading(Unavailable):
    """The engine is still loading its base model; try again in a few seconds."""


class TooBusy(Unavailable):
    """{waiting} generations are waiting already, the queue limit is reached; try again later."""


class WrongNumbers(Internal):
    """The compiled kernels compute wrong numbers on this machine: logits of the built-in check differ from the known
    answer by {difference:.2g} of their spread, where {limit:.2g} is allowed. The engine does not serve. Start it with
    LORADOCK_KERNELS=avx2 (or plain), which are simpler ones, and report the processor and the version of Loradock."""


class NoKernels(Internal):
    """The engine's compiled kernels cannot run on this machine: {reason}. Install the wheel that is made for it, or
    build them from the sources (native/build.py)."""


class Unfollowed(BadRequest):
    """The answer cannot go on as {constraint} wants it: {reason}. Simplify it, or send the request again."""


class NothingLeft(BadRequest):
    """No token is left to choose: penalties, biases and constraints of this request rule all of them out."""
