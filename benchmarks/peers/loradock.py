"""Loradock: its engine alone, and all of it."""

import asyncio
import shutil
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from benchmarks.adapters import Adapter
from benchmarks.client import Failed
from benchmarks.environments import Unavailable
from benchmarks.models import hf_folder
from benchmarks.peers.base import BITS, USUAL, Peer, Server, Setting, attach_all, until_first_token
from benchmarks.places import BASE, CACHE, free_port, packaged_gguf
from benchmarks.processes import Tree
from benchmarks.workload import Case, Fleet
from loradock.checkpoints.adapters.packed import write_packed
from loradock.checkpoints.packed_cache import FOLDER

KEY, ACCOUNT = "ld-benchmark-key", "bench"


class Engine(Peer):
    """`mode`: a --quantization, else bfloat16; `drafts`: speculative decoding, as it comes; `cache`: another folder for
    packed weights."""

    memory_gib = 2.9  # most of it keys and values, once they were used
    central_only = True
    ours = True

    def __init__(
        self, mode: str = "", *, drafts: bool = True, setting: Setting = USUAL, cache: Path | None = None
    ) -> None:
        without = [] if drafts else ["--speculative-tokens", "0"]
        self.name = "engine" + (f"-{mode}" if mode else "") + ("" if drafts else "-plain")
        self.title = "Loradock engine" + (f", {mode}" if mode else "") + ("" if drafts else ", no drafts")
        self._flags = [*_flags(mode), *without]
        self.settings = (
            f"{' '.join(without) or 'as it comes'}, without the gateway; {_weights(mode)}; its weights were packed by"
            " a start before, and its adapters as they are at an upload"
        )
        self._setting = setting
        self._variables = {} if cache is None else {FOLDER: str(cache)}
        if setting is not USUAL:
            self.memory_gib = setting.memory_gib(BITS[mode or "bf16"])
            self._flags += _room(setting)

    def asked(self, case: Case) -> bool:
        """In few bits and without drafts only one request at a time: with more, what counts is what comes through the
        gateway, and with more than eight there are no drafts in any case."""
        return super().asked(case) and (not self._flags or case.clients == 1)

    def prepare(self) -> None:
        """Have the weights packed, which only the first start of a model has to wait for."""
        server = self._launch()
        while server.tree.alive and not _answers(server.url):
            time.sleep(0.1)
        if not server.tree.alive:
            raise Unavailable(f"it did not start: {server.tree.last_words()}")
        server.tree.end()

    def _launch(self) -> Server:
        port = free_port()
        command = [sys.executable, "-m", "loradock.engine", "--model", self._model(), "--port", str(port)]
        tree = Tree(self.name, [*command, "--served-model-name", "base", *self._flags], self._variables)
        return EngineServer(tree, f"http://127.0.0.1:{port}")

    def _model(self) -> Path:
        model = self._setting.model
        return hf_folder(model) if model.random else packaged_gguf()

    async def start(self, fleet: Fleet) -> Server:
        begun = time.perf_counter()
        server = self._launch()
        await until_first_token(server, begun)
        await attach_all(server, fleet.adapters)
        return server


def _room(setting: Setting) -> list[str]:
    """For just as many tokens as the others are given, and a block for the end of each sequence."""
    gib = (setting.tokens + 16 * setting.sequences + 16) * setting.model.kv_bytes / 2**30
    return ["--max-model-len", str(setting.context), "--kv-cache-gib", f"{gib:.3f}"]


class EngineServer(Server):
    async def upload(self, adapter: Adapter) -> None:
        """What Loradock's server does with an adapter that was uploaded."""
        write_packed(adapter.folder)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health"):
            return True
    except OSError:
        return False


@dataclass
class LoradockServer(Server):
    endpoint: str = ""
    endpoint_name: str = ""

    def extra(self, adapter: Adapter | None) -> dict[str, object]:
        return {"model": self.endpoint_name if adapter is None else f"{ACCOUNT}/{adapter.name}"}

    async def upload(self, adapter: Adapter) -> None:
        form = aiohttp.FormData()
        form.add_field("model_name", adapter.name)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            form.add_field("files", (adapter.folder / name).read_bytes(), filename=name)
        job = (await self.call("POST", "/v1/models/upload", data=form))["data"]["job_id"]
        while (found := await self.call("GET", f"/v1/jobs/{job}"))["status"] != "Complete":
            if found["status"] == "Failed":
                raise Failed(f"the upload of {adapter.name} failed: {found}")
            await asyncio.sleep(0.05)

    async def bind(self, adapter: Adapter) -> None:
        await self._adapters("POST", adapter)

    async def detach(self, adapter: Adapter) -> None:
        await self._adapters("DELETE", adapter)

    async def _adapters(self, method: str, adapter: Adapter) -> None:
        body = {"model_id": f"{self.endpoint_name}:{ACCOUNT}/{adapter.name}"}
        await self.call(method, f"/v1/endpoints/{self.endpoint}/adapters", json=body)

    async def call(self, method: str, path: str, **kwargs: object) -> dict:
        # No content type of ours here: aiohttp sets that of the form.
        async with (
            aiohttp.ClientSession(headers=self.headers) as http,
            http.request(method, self.url + path, **kwargs) as answer,
        ):
            if answer.status >= 400:
                raise Failed(f"{method} {path}: {answer.status} {(await answer.text())[:300]}")
            return await answer.json()


class Gateway(Peer):
    """`mode`: a --quantization, else bfloat16; `drafts`: speculative decoding, as it comes."""

    memory_gib = 3.4
    base_beside = True
    ours = True

    def __init__(self, mode: str = "", *, drafts: bool = True) -> None:
        self.name = f"loradock-{mode}" if mode else "loradock"
        self.title = f"Loradock, {mode}" if mode else "Loradock"
        self._flags = [*_flags(mode), *([] if drafts else ["--engine-args", "--speculative-tokens 0"])]
        self.settings = (
            "`loradock serve` as it comes, one replica; every request passes authentication, routing and metering;"
            f" {_weights(mode)}"
        )

    def prepare(self) -> None:
        pass

    async def start(self, fleet: Fleet) -> Server:
        data, port = CACHE / f"{self.name}-data", free_port()
        shutil.rmtree(data, ignore_errors=True)
        command = [sys.executable, "-m", "loradock.cli.main", "serve", "--data-dir", data, "--port", str(port)]
        command += self._flags
        variables = {"LORADOCK_BOOTSTRAP_KEY": KEY, "LORADOCK_BOOTSTRAP_ACCOUNT": ACCOUNT}
        begun = time.perf_counter()
        tree = Tree(self.name, command, variables)
        server = LoradockServer(tree, f"http://127.0.0.1:{port}", {"authorization": f"Bearer {KEY}"})
        await self._endpoint(server)
        await until_first_token(server, begun)
        await attach_all(server, fleet.adapters)
        return server

    async def _endpoint(self, server: LoradockServer) -> None:
        body = {"model": BASE, "hardware": "", "autoscaling": {"min_replicas": 1, "max_replicas": 1}}
        made = await _patiently(server, body)
        server.endpoint, server.endpoint_name = made["id"], made["name"]
        while made["state"] != "STARTED":
            if made["state"] == "ERROR":
                raise Failed(str(made))
            await asyncio.sleep(0.05)
            made = await server.call("GET", f"/v1/endpoints/{made['id']}")


def _flags(mode: str) -> list[str]:
    return ["--quantization", mode] if mode else []


def _weights(mode: str) -> str:
    if not mode:
        return "bfloat16, made of the GGUF file's weights"
    return f"--quantization {mode}, made of the GGUF file's weights; products of numbers in bytes"


async def _patiently(server: LoradockServer, body: dict[str, object]) -> dict:
    """Create the endpoint as soon as the server listens."""
    while True:
        try:
            return await server.call("POST", "/v1/endpoints", json=body)
        except aiohttp.ClientConnectionError:
            if not server.tree.alive:
                raise Failed(f"it did not start: {server.tree.last_words()}") from None
            await asyncio.sleep(0.05)
