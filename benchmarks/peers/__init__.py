"""Who is measured: for each how it is set up, started and asked."""

from benchmarks.peers.base import Peer
from benchmarks.peers.llamacpp import LlamaCpp, LlamaCppWheel
from benchmarks.peers.loradock import Engine, Gateway
from benchmarks.peers.peft import Peft
from benchmarks.peers.vllm import Vllm

__all__ = ["PEERS", "Peer"]

PEERS: tuple[Peer, ...] = (
    Gateway(),
    Gateway("int8"),
    Gateway("int4"),
    Engine(),
    Engine("int8"),
    Engine("int4"),
    Engine(drafts=False),
    Engine("int8", drafts=False),
    Engine("int4", drafts=False),
    Vllm(),
    Vllm(room=True),
    LlamaCpp("Q4_1"),
    LlamaCpp("Q8_0"),
    LlamaCpp("F16"),
    LlamaCpp("BF16"),
    LlamaCpp("Q4_1", drafts=True),
    LlamaCpp("Q8_0", drafts=True),
    LlamaCpp("F16", drafts=True),
    LlamaCpp("BF16", drafts=True),
    LlamaCppWheel("Q4_1"),
    Peft(),
)
