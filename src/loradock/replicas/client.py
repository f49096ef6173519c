"""The replica protocol from the control plane's side: vLLM's HTTP surface with a bearer secret."""

import asyncio
import json
import math
import re
from pathlib import Path
from typing import Any

import msgspec

from loradock.replicas.http import CALL_S, BrokenOff, ReplicaHttp, Reply
from loradock.replicas.vitals import Answer, Vitals, VitalsReader
from loradock.types.enums import AdapterTier
from loradock.types.errors import AdapterRefused, Internal, LoradockError, ReplicaLost, Unavailable
from loradock.types.protocol import ErrorBody, LoadAdapter, Model, ModelList, UnloadAdapter

# What an engine puts in JSON for minus infinity (vLLM's figure).
_LOWEST = -9999
_MISSING = 404
_PATH = re.compile(r"(?<![\w/.:])/(?:[^\s/'\"]+/)+([^\s/'\"]*)")
_NOT_FINITE = "not JSON compliant"
"""The text by which vLLM (0.32) says that a log probability is not finite: it fails to write it, and blames the
request."""
_DIVERGED = (
    "the adapter answers with numbers that are not finite (NaN or infinity): its weights are too large for the base"
    " model's precision, or its training diverged"
)


class ReplicaClient:
    """A client of one replica. Raises ReplicaLost when it cannot be reached, else an error with the engine's own
    reason. `check_timeout`: seconds that a health check waits for its answer."""

    def __init__(self, http: ReplicaHttp, url: str, secret: str, check_timeout: float = 5.0) -> None:
        self._http = http
        self.url = url
        self._headers = {"Authorization": f"Bearer {secret}"}
        self._vitals = VitalsReader(http, url, self._headers, check_timeout)

    async def vitals(self) -> Vitals:
        """Return how it is. Never raises an error."""
        return await self._vitals.read()

    async def healthy(self) -> bool:
        """Whether it is ready. False, never an error, when it is down, stuck or still loading."""
        return (await self.vitals()).answer is Answer.GOOD

    async def adapters(self) -> dict[str, str]:
        """Loaded adapters: name → path."""
        return {model.id: model.root or "" for model in await self._loaded()}

    async def tiers(self) -> dict[str, AdapterTier]:
        """Return where each adapter is kept; an engine that does not say keeps it in memory."""
        return {model.id: AdapterTier(model.tier or AdapterTier.RAM) for model in await self._loaded()}

    async def load(self, name: str, path: Path, *, lazy: bool = False) -> None:
        """Load an adapter; same name and path again is a success; `lazy`: its first request may read it. Raises
        AdapterRefused."""
        try:
            await self._call("POST", "/v1/load_lora_adapter", LoadAdapter(name, str(path), lazy))
        except AdapterRefused:
            # vLLM refuses what it has already, also from the very same folder.
            if (await self.adapters()).get(name) != str(path):
                raise

    async def unload(self, name: str) -> None:
        """Returns when the adapter's requests are done and it is gone. An unknown name is already gone."""
        await self._call("POST", "/v1/unload_lora_adapter", UnloadAdapter(name), missing_ok=True)

    async def probe(self, name: str) -> None:
        """Compute one token through the adapter. Raises AdapterRefused unless its log probability is finite."""
        request = {"model": name, "prompt": "Hello", "max_tokens": 1, "temperature": 0, "logprobs": 1}
        try:
            body = json.loads(await self._call("POST", "/v1/completions", request))  # may hold NaN
        except (AdapterRefused, Internal) as error:
            if _NOT_FINITE in error.message:
                raise AdapterRefused(_DIVERGED) from error
            raise
        logprobs = body["choices"][0]["logprobs"]["token_logprobs"]
        if not logprobs or not all(_finite(value) for value in logprobs):
            raise AdapterRefused(_DIVERGED)

    async def _loaded(self) -> list[Model]:
        listed = msgspec.json.decode(await self._call("GET", "/v1/models"), type=ModelList)
        return [model for model in listed.data if model.parent]

    async def _call(self, method: str, path: str, body: Any = None, *, missing_ok: bool = False) -> bytes:
        content = None if body is None else msgspec.json.encode(body)
        try:
            async with asyncio.timeout(CALL_S):
                reply = await self._http.call(method, self.url, path, self._headers, content)
        except (BrokenOff, TimeoutError) as error:
            raise ReplicaLost from error
        if reply.status >= 300 and not (missing_ok and reply.status == _MISSING):
            raise _error(reply.status, _reason(reply))
        return reply.content


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > _LOWEST


def _reason(reply: Reply) -> str:
    """The message of an error body, or the text itself; of paths on this machine only the last part."""
    try:
        reason = msgspec.json.decode(reply.content, type=ErrorBody).error.message
    except ValueError:
        reason = reply.text[:500]
    return _PATH.sub(r"…/\1", reason)


def _error(status: int, reason: str) -> LoradockError:
    if status < 500:
        return AdapterRefused(reason)
    return Unavailable(f"the replica is not ready: {reason}") if status == 503 else Internal(f"the engine: {reason}")
