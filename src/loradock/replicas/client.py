"""The replica protocol from the control plane's side."""

import json
import math
from pathlib import Path
from typing import Any

import aiohttp

from loradock.types.errors import BadRequest, ReplicaLost


class ReplicaClient:
    """Talks to one replica. Raises ReplicaLost when it cannot be reached, BadRequest with its own reason."""

    def __init__(self, http: aiohttp.ClientSession, url: str, secret: str) -> None:
        self._http, self.url = http, url
        self.headers = {"Authorization": f"Bearer {secret}"}

    async def healthy(self) -> bool:
        try:
            timeout = aiohttp.ClientTimeout(total=5)
            async with self._http.get(f"{self.url}/health", timeout=timeout) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def adapters(self) -> dict[str, str]:
        """Loaded adapters: name → path."""
        body = await self._call("GET", "/v1/models")
        return {entry["id"]: entry["root"] for entry in body["data"] if entry["parent"]}

    async def load(self, name: str, path: Path) -> None:
        await self._call("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)})

    async def unload(self, name: str) -> None:
        """Returns when the adapter's requests are done and it is gone. An unknown name is already gone."""
        if name in await self.adapters():
            await self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name})

    async def probe(self, name: str) -> None:
        """One token through the adapter. Raises BadRequest unless its log probability is finite."""
        request = {"model": name, "prompt": "Hello", "max_tokens": 1, "temperature": 0, "logprobs": 1}
        body = await self._call("POST", "/v1/completions", request)
        logprobs = body["choices"][0]["logprobs"]["token_logprobs"]
        if not logprobs or not math.isfinite(logprobs[0]) or logprobs[0] <= -9999:
            raise BadRequest("the adapter answers with numbers that are not finite")

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        try:
            async with self._http.request(method, self.url + path, json=body, headers=self.headers) as response:
                text = await response.text()
                if response.status >= 400:
                    raise BadRequest(_reason(text))
                return json.loads(text) if response.content_type == "application/json" else text
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ReplicaLost from error


def _reason(text: str) -> str:
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text[:500]
