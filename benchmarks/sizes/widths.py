"""Who is measured in sizes: for each width of weights our engine and what else has that width."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.models import MODELS, Model
from benchmarks.peers.base import Peer, Setting
from benchmarks.peers.llamacpp import LlamaCpp, LlamaCppWheel
from benchmarks.peers.loradock import Engine
from benchmarks.peers.openvino import OpenVino
from benchmarks.processor import AVX2_CHOSEN
from benchmarks.records import Budget, Records


class Width(NamedTuple):
    """`engine`: a --quantization; `gguf`, `openvino`: formats of llama.cpp's files, the one that OpenVINO reads."""

    name: str
    engine: str
    gguf: str
    openvino: str


WIDTHS = (
    Width("bf16", "", "BF16", "F16"),
    Width("int8", "int8", "Q8_0", "Q8_0"),
    Width("int4", "int4", "Q4_0", "Q4_0"),
)


@dataclass(frozen=True)
class Plan:
    """What of all is measured. `patience`: the most seconds that one measurement may take."""

    sizes: Sequence[str]
    widths: Sequence[str]
    peers: Sequence[str] | None
    cases: Sequence[str]
    contexts: Sequence[int]
    clients: Sequence[int]
    repetitions: int
    memory_gib: float
    patience: float

    @property
    def models(self) -> list[Model]:
        return [MODELS[name] for name in self.sizes]

    def peers_of(self, setting: Setting) -> list[Peer]:
        """Those of one width after each other, so that they are up together."""
        return [peer for peer in size_peers(setting, self.widths) if self.peers is None or peer.name in self.peers]


@dataclass(frozen=True)
class Job:
    """A plan, and where what is found goes."""

    plan: Plan
    records: Records
    budget: Budget


def size_peers(
    setting: Setting, widths: Sequence[str] = ("bf16", "int8", "int4"), *, everywhere: bool = False
) -> Iterator[Peer]:
    """`everywhere`: also those that are measured on other processors only."""
    for width in WIDTHS:
        if width.name in widths:
            yield Engine(width.engine, drafts=False, setting=setting)
            if everywhere or not AVX2_CHOSEN:
                yield LlamaCpp(width.gguf, setting=setting)
                yield OpenVino(width.openvino, setting=setting)
            if everywhere or AVX2_CHOSEN:
                yield LlamaCppWheel(width.gguf, setting=setting)


def width_of(peer: str) -> Width:
    """Of a peer by its name."""
    for width in WIDTHS[1:]:
        if width.engine in peer or peer.endswith(width.gguf.lower()):
            return width
    return WIDTHS[0]


def rivals_of(width: Width) -> tuple[str, str]:
    """The names of llama.cpp of the same width: built here, or as the wheel comes."""
    return f"llamacpp-{width.gguf.lower()}", f"llamacpp-wheel-{width.gguf.lower()}"
