"""transformers + PEFT with mixed batches, behind a small batch server of ours (it brings none)."""

import time

from benchmarks.environments import Environment
from benchmarks.models import hf_folder
from benchmarks.peers.base import Peer, Server, attach_all, until_first_token
from benchmarks.places import ROOT, free_port
from benchmarks.processes import Tree
from benchmarks.processor import PYTORCH_TYPE
from benchmarks.workload import Fleet

_ENVIRONMENT = Environment("peft", (("torch==2.13.0",), ("transformers==5.24.0", "peft==0.21.2", "aiohttp")))


class Peft(Peer):
    name = "peft"
    title = "transformers + PEFT"
    central_only = True
    settings = (
        "bfloat16 if the processor multiplies it, else float32; `generate` with `adapter_names`, batches of up to 64"
        " made of all that waits (answers of a case are equally long, so a batch loses nothing by waiting for its"
        " longest); a batch of one adapter, or of none, takes PEFT's cheaper path without names"
    )

    def prepare(self) -> None:
        _ENVIRONMENT.ready()
        hf_folder()

    async def start(self, fleet: Fleet) -> Server:
        port = free_port()
        script = ROOT / "benchmarks" / "servers" / "peft_batches.py"
        begun = time.perf_counter()
        tree = Tree(self.name, [_ENVIRONMENT.python, script, hf_folder(), str(port), PYTORCH_TYPE])
        server = Server(tree, f"http://127.0.0.1:{port}")
        await until_first_token(server, begun)
        await attach_all(server, fleet.adapters)
        return server
