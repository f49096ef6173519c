"""A health check: what a replica says of itself when it is asked how it is."""

import asyncio
from dataclasses import dataclass
from enum import Enum, auto

import msgspec

from loradock.replicas.http import BrokenOff, ReplicaHttp, Reply
from loradock.types.protocol import LOADING, Health

_STEPS = ("vllm:iteration_tokens_total_count", "vllm:generation_tokens_total", "vllm:prompt_tokens_total")
_WORK = ("vllm:num_requests_running", "vllm:num_requests_waiting")
"""vLLM's own names: https://docs.vllm.ai/en/latest/usage/metrics.html."""


class Answer(Enum):
    """The result of a health check."""

    GOOD = auto()
    FAILED = auto()
    TIMED_OUT = auto()


@dataclass(frozen=True, slots=True)
class Vitals:
    """`why`: what a failed check said. `steps`: a number that moves with every step, `work`: what waits for them,
    `compute_seconds`: processor time of whoever computes them; None where the engine does not tell."""

    answer: Answer
    why: str = ""
    steps: float | None = None
    work: float | None = None
    compute_seconds: float | None = None
    doing: str = ""
    """What an engine that loads says of it."""


class VitalsReader:
    def __init__(self, http: ReplicaHttp, url: str, headers: dict[str, str], timeout: float) -> None:
        self._http = http
        self._url = url
        self._headers = headers
        self._timeout = timeout
        self._has_metrics: bool | None = None

    async def read(self) -> Vitals:
        try:
            async with asyncio.timeout(self._timeout):
                reply = await self._get("/health")
                told = _health(reply.content)
                if reply.status != 200:
                    reason = (told.reason or "")[:500]
                    doing = reason if told.status == LOADING else ""
                    return Vitals(Answer.FAILED, f"status {reply.status} {reason}".strip(), doing=doing)
                if told.steps is None:
                    return await self._of_metrics()
                return Vitals(Answer.GOOD, "", told.steps, told.work, told.compute_seconds)
        except TimeoutError:
            return Vitals(Answer.TIMED_OUT)
        except BrokenOff as error:
            return Vitals(Answer.FAILED, str(error))

    async def _of_metrics(self) -> Vitals:
        """vLLM's /health has no body; an engine without its metrics is not asked for them again."""
        if self._has_metrics is False:
            return Vitals(Answer.GOOD)
        reply = await self._get("/metrics")
        text = reply.text
        self._has_metrics = reply.status == 200 and "vllm:" in text
        if not self._has_metrics:
            return Vitals(Answer.GOOD)
        return Vitals(Answer.GOOD, steps=_sum(text, _STEPS), work=_sum(text, _WORK))

    async def _get(self, path: str) -> Reply:
        # No limit of the client's own: a connection that hangs is what is looked for here.
        return await self._http.call("GET", self._url, path, self._headers, connect=None)


def _health(content: bytes) -> Health:
    """vLLM's has no body."""
    try:
        return msgspec.json.decode(content, type=Health)
    except ValueError:
        return Health()


def _sum(text: str, names: tuple[str, ...]) -> float:
    """Return the sum of all samples of these metrics, whatever their labels."""
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith(names) and line.split("{", 1)[0].split(" ", 1)[0] in names
    )
