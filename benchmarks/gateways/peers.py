"""The gateways, each with its own way of being started before a mock engine."""

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from benchmarks.adapters import made
from benchmarks.client import Failed
from benchmarks.environments import Environment
from benchmarks.models import hf_folder
from benchmarks.peers.loradock import ACCOUNT, KEY, LoradockServer
from benchmarks.places import CACHE, ROOT, free_port
from benchmarks.processes import Tree

_MOCK = ROOT / "benchmarks" / "servers" / "mock_engine.py"
_ROUTER = Environment("vllm-router", (("--only-binary", ":all:", "vllm-router==0.1.17"),))
_LITELLM = Environment("litellm", (("litellm[proxy]==1.108.7",),))


@dataclass
class Running:
    """`whole`: its CPU time is that of all its processes (else only of the first: the engine is its child)."""

    tree: Tree
    port: int
    model: str
    whole: bool = True
    key: str = KEY


class Target:
    """Asked directly: what the others are measured against."""

    name = "direct"
    title = "the mock engine itself"
    settings = ""

    def prepare(self) -> None:
        pass

    async def start(self, mock_port: int) -> Running:
        port = free_port()
        tree = Tree("mock-direct", [sys.executable, _MOCK, "--port", str(port)])
        return await _listening(Running(tree, port, "mock"))


class Loradock(Target):
    name = "loradock"
    title = "Loradock"
    settings = "`loradock serve`, all of it: keys, routes, limits, metering, the control loop; an adapter is asked"

    def prepare(self) -> None:
        """The mock takes the place of an interpreter with vLLM, so that the server starts it as a replica."""
        folder = CACHE / "mock"
        folder.mkdir(parents=True, exist_ok=True)
        script = folder / "python"
        asked = '[ "$1" = "-c" ] && echo has vllm && exit 0'
        script.write_text(f'#!/bin/sh\n{asked}\nshift\nexec "{sys.executable}" "{_MOCK}" "$@"\n')
        script.chmod(0o755)
        base = folder / "import" / "mock" / "base"
        if not base.exists():
            shutil.copytree(hf_folder(), base, copy_function=os.link)

    async def start(self, mock_port: int) -> Running:
        data, port, folder = CACHE / "gateway-data", free_port(), CACHE / "mock"
        shutil.rmtree(data, ignore_errors=True)
        command = [sys.executable, "-m", "loradock.cli.main", "serve", "--data-dir", data, "--port", str(port)]
        command += ["--import-root", folder / "import", "--vllm-python", folder / "python"]
        tree = Tree("gateway-loradock", command, {"LORADOCK_BOOTSTRAP_KEY": KEY, "LORADOCK_BOOTSTRAP_ACCOUNT": ACCOUNT})
        running = await _listening(Running(tree, port, "", whole=False))
        server = LoradockServer(tree, f"http://127.0.0.1:{port}", {"authorization": f"Bearer {KEY}"})
        await _endpoint(server)
        adapter = made("gateway-r8", 8, seed=5)
        config = json.loads((adapter.folder / "adapter_config.json").read_text())
        (adapter.folder / "adapter_config.json").write_text(
            json.dumps({**config, "base_model_name_or_path": "mock/base"})
        )
        await server.attach(adapter)
        running.model = str(server.extra(adapter)["model"])
        return running


async def _endpoint(server: LoradockServer) -> None:
    body = {"model": "mock/base", "hardware": "", "engine": "vllm", "autoscaling": {"min_replicas": 1}}
    made_one = await server.call("POST", "/v1/endpoints", json=body)
    server.endpoint, server.endpoint_name = made_one["id"], made_one["name"]
    while made_one["state"] != "STARTED":
        if made_one["state"] == "ERROR":
            raise Failed(str(made_one))
        await asyncio.sleep(0.1)
        made_one = await server.call("GET", f"/v1/endpoints/{server.endpoint}")


class Router(Target):
    def __init__(self, policy: str) -> None:
        self.name = f"vllm-router-{policy.replace('_', '-')}"
        self.title = f"vllm-router, {policy.replace('_', '-')}"
        self.settings = "Rust; its policies are measured apart, `cache_aware` is its default"
        self._policy = policy

    def prepare(self) -> None:
        _ROUTER.ready()

    async def start(self, mock_port: int) -> Running:
        port = free_port()
        command = [_ROUTER.folder / "bin" / "vllm-router", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--worker-urls", f"http://127.0.0.1:{mock_port}", "--policy", self._policy]
        command += ["--prometheus-port", str(free_port()), "--log-level", "warning"]
        return await _listening(Running(Tree(self.name, command), port, "mock"))


class LiteLLM(Target):
    name = "litellm"
    title = "LiteLLM"
    settings = "one worker, a master key, no database, logging off"

    def prepare(self) -> None:
        _LITELLM.ready()

    async def start(self, mock_port: int) -> Running:
        port, config = free_port(), CACHE / "litellm.yaml"
        upstream = {"model": "openai/mock", "api_base": f"http://127.0.0.1:{mock_port}/v1", "api_key": "none"}
        settings = {
            "model_list": [{"model_name": "mock", "litellm_params": upstream}],
            "general_settings": {"master_key": "sk-bench"},
            "litellm_settings": {"telemetry": False, "drop_params": False},
        }
        config.write_text(json.dumps(settings))  # JSON is YAML too
        command = [_LITELLM.folder / "bin" / "litellm", "--config", config, "--port", str(port)]
        command += ["--host", "127.0.0.1", "--num_workers", "1"]
        tree = Tree(
            self.name, command, {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "DISABLE_ADMIN_UI": "true"}
        )
        return await _listening(Running(tree, port, "mock", key="sk-bench"), "/health/liveliness")


async def _listening(running: Running, path: str = "/health", patience: float = 60) -> Running:
    until = time.monotonic() + patience
    async with aiohttp.ClientSession() as http:
        while time.monotonic() < until and running.tree.alive:
            try:
                async with http.get(f"http://127.0.0.1:{running.port}{path}") as answer:
                    if answer.status == 200:
                        return running
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
    await asyncio.to_thread(running.tree.end)
    raise Failed(f"it did not start: {running.tree.last_words()}")


TARGETS: Sequence[Target] = (Target(), Loradock(), Router("cache_aware"), Router("round_robin"), LiteLLM())
