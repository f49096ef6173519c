"""What a replica says of itself when it is asked how it is: one health check."""

import asyncio
import json
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import aiohttp

_STEPS = ("vllm:iteration_tokens_total_count", "vllm:generation_tokens_total", "vllm:prompt_tokens_total")
_WORK = ("vllm:num_requests_running", "vllm:num_requests_waiting")
"""vLLM's own names: https://docs.vllm.ai/en/latest/usage/metrics.html."""

_NO_LIMIT = aiohttp.ClientTimeout(total=None)


class Answer(Enum):
    """What became of a health check."""

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


class VitalsReader:
    def __init__(self, http: aiohttp.ClientSession, url: str, headers: dict[str, str], timeout: float) -> None:
        self._http = http
        self._url = url
        self._headers = headers
        self._timeout = timeout
        self._has_metrics: bool | None = None

    async def read(self) -> Vitals:
        try:
            async with asyncio.timeout(self._timeout):
                status, text = await self._get("/health")
                if status != 200:
                    return Vitals(Answer.FAILED, f"status {status} {_reason(text)}".strip())
                told = _object(text)
                return _of_ours(told) if "steps" in told else await self._of_metrics()
        except TimeoutError:
            return Vitals(Answer.TIMED_OUT)
        except aiohttp.ClientError as error:
            return Vitals(Answer.FAILED, str(error) or type(error).__name__)

    async def _of_metrics(self) -> Vitals:
        """vLLM's /health has no body; an engine without its metrics is not asked for them again."""
        if self._has_metrics is False:
            return Vitals(Answer.GOOD)
        status, text = await self._get("/metrics")
        self._has_metrics = status == 200 and "vllm:" in text
        if not self._has_metrics:
            return Vitals(Answer.GOOD)
        return Vitals(Answer.GOOD, steps=_sum(text, _STEPS), work=_sum(text, _WORK))

    async def _get(self, path: str) -> tuple[int, str]:
        # No limit of the session's own: a connection that hangs is what is looked for here.
        async with self._http.get(self._url + path, headers=self._headers, timeout=_NO_LIMIT) as response:
            return response.status, await response.text()


def _of_ours(told: dict[str, Any]) -> Vitals:
    return Vitals(Answer.GOOD, "", told["steps"], told.get("work"), told.get("compute_seconds"))


def _object(text: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _reason(text: str) -> str:
    return str(_object(text).get("reason", ""))[:500]


def _sum(text: str, names: tuple[str, ...]) -> float:
    """Of all samples of these metrics, whatever their labels."""
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith(names) and line.split("{", 1)[0].split(" ", 1)[0] in names
    )
