"""The counts of requests."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from loradock.telemetry.histogram import Histogram
from loradock.types.enums import Outcome

COUNTS = ("ok", "client_error", "server_error", "aborted", "prompt_tokens", "completion_tokens")
TIMES = ("ttft", "per_token", "duration")


class Key(NamedTuple):
    """`account_id` and `key_id` are the caller's; `model` is the adapter's name, "" for the base."""

    account_id: str
    key_id: str
    endpoint_id: str
    model: str


class Tokens(NamedTuple):
    prompt: int
    completion: int


NO_TOKENS = Tokens(0, 0)


@dataclass(slots=True)
class Request:
    """A request being served; times in seconds of one clock. `first`: when its first token went out.

    `outcome` is ABORTED until it is known better.
    """

    key: Key
    began: float
    first: float | None = None
    ended: float = 0.0
    streamed: bool = False
    outcome: Outcome = Outcome.ABORTED
    tokens: Tokens = NO_TOKENS


@dataclass(slots=True)
class Usage:
    """Requests by outcome, tokens, and times: to the first token and per further token (of streams), and in all."""

    ok: int = 0
    client_error: int = 0
    server_error: int = 0
    aborted: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ttft: Histogram = field(default_factory=Histogram)
    per_token: Histogram = field(default_factory=Histogram)
    duration: Histogram = field(default_factory=Histogram)

    @property
    def requests(self) -> int:
        return self.ok + self.client_error + self.server_error + self.aborted

    def count(self, request: Request) -> None:
        setattr(self, request.outcome, getattr(self, request.outcome) + 1)
        self.prompt_tokens += request.tokens.prompt
        self.completion_tokens += request.tokens.completion
        self._time(request)

    def _time(self, request: Request) -> None:
        """Measure only what was answered: an error that comes fast would make the service look fast."""
        if request.outcome is Outcome.OK:
            self.duration.observe(request.ended - request.began)
        if request.streamed and request.first is not None:
            self.ttft.observe(request.first - request.began)
            if request.outcome is Outcome.OK and request.tokens.completion > 1:
                self.per_token.observe((request.ended - request.first) / (request.tokens.completion - 1))

    def add(self, other: "Usage") -> None:
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in TIMES:
            getattr(self, name).add(getattr(other, name))

    def columns(self) -> dict[str, Any]:
        """Return the columns as the tables of store.usage keep them."""
        counts = {name: getattr(self, name) for name in COUNTS}
        return counts | {name: getattr(self, name).packed() for name in TIMES}

    @classmethod
    def of(cls, row: Any) -> "Usage":
        """Create it from a row with these columns."""
        times = (Histogram.unpacked(getattr(row, name)) for name in TIMES)
        return cls(*(getattr(row, name) for name in COUNTS), *times)


def outcome_of(status: int) -> Outcome:
    if status < 400:
        return Outcome.OK
    return Outcome.CLIENT_ERROR if status < 500 else Outcome.SERVER_ERROR
