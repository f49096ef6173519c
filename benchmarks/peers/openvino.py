"""OpenVINO GenAI, behind a small server of ours (its own, OpenVINO Model Server, is no Python package)."""

import subprocess
import time
from pathlib import Path

from benchmarks.environments import Environment, Unavailable
from benchmarks.models import gguf_file
from benchmarks.peers.base import BITS, USUAL, Peer, Server, Setting, until_first_token
from benchmarks.places import CACHE, ROOT, free_port
from benchmarks.processes import Tree
from benchmarks.workload import Case, Fleet

_VERSION = "2026.4.0"
_ENVIRONMENT = Environment(
    "openvino",
    ((f"openvino=={_VERSION}", f"openvino-genai=={_VERSION}.0", f"openvino-tokenizers=={_VERSION}.0", "aiohttp"),),
)
_SERVERS = ROOT / "benchmarks" / "servers"
_MORE = 1.5
"""It takes so many times the memory that its weights, keys and values and the like do."""


class OpenVino(Peer):
    extra = True
    mixes = False

    def __init__(self, weights: str, *, setting: Setting = USUAL) -> None:
        """`weights`: F16, Q8_0 or Q4_0, the formats of GGUF that it reads."""
        self.name = f"openvino-{weights.lower()}"
        self.title = f"OpenVINO GenAI {weights}"
        self.settings = (
            f"its own reading of the {weights} GGUF (a preview feature; it computes 16 bits in bfloat16 where the"
            " processor does), made before; continuous batching with prefix caching, all else as it comes: keys and"
            " values in 8 bits; an adapter is a state of all the pipeline, so that one at a time is asked of it"
        )
        self.memory_gib = _MORE * setting.memory_gib(BITS[weights.lower()])
        self._weights, self._setting = weights, setting

    def asked(self, case: Case) -> bool:
        return super().asked(case) and case.used <= 1

    @property
    def _folder(self) -> Path:
        return CACHE / "openvino" / f"{self._setting.model.name}.{self._weights}"

    def prepare(self) -> None:
        _ENVIRONMENT.ready()
        if (self._folder / "openvino_model.xml").exists():
            return
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        print(f"Making {self.title} of {self._setting.model.title}", flush=True)
        command = [_ENVIRONMENT.python, _SERVERS / "openvino_model.py", gguf_file(self._weights, self._setting.model)]
        done = subprocess.run([*command, self._folder], check=False, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"its model cannot be made: {' '.join(done.stderr.split()[-40:])}")

    async def start(self, fleet: Fleet) -> Server:
        port = free_port()
        facts = [str(port), str(self._setting.sequences), str(self._setting.tokens)]
        adapters = [f"{adapter.name}={adapter.folder / 'adapter_model.safetensors'}" for adapter in fleet.adapters]
        begun = time.perf_counter()
        command = [_ENVIRONMENT.python, _SERVERS / "openvino_server.py", self._folder, *facts, *adapters]
        server = Server(Tree(self.name, command), f"http://127.0.0.1:{port}")
        await until_first_token(server, begun)
        return server
