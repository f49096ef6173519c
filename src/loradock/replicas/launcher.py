"""The port through which the control loop starts and finds replicas (`process` here; a cluster's later)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from loradock.checkpoints.memory_plan import MemoryPlan
from loradock.types.enums import EngineKind, Fate, Quantization


@dataclass(frozen=True)
class ReplicaSpec:
    """The parameters of an engine process. `model` is a Hugging Face folder or GGUF file.

    `max_loras` adapters take part in one step, `max_cpu_loras` are kept in memory, the rest come from disk. `gpus`:
    how many it takes of the GPUs numbered `devices`; vLLM spreads the model over them. `shares_cpu`: others like it
    compute on the same cores. `memory`: what it is to take, where that can be told. vLLM is told neither `threads` nor
    `quantization`.
    """

    id: str
    secret: str
    model: Path
    served_names: tuple[str, ...]
    lora_enabled: bool = True
    max_lora_rank: int = 64
    max_loras: int = 32
    max_cpu_loras: int = 256
    threads: int = 0
    quantization: Quantization | None = None
    shares_cpu: bool = False
    engine: EngineKind = EngineKind.EMBEDDED
    gpus: int = 0
    devices: tuple[int, ...] = ()
    memory: MemoryPlan | None = None


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """Bytes of memory, all and those that no other process shares; seconds of processor time since it began;
    `stopped`: a signal holds it (SIGSTOP), or a debugger."""

    resident: int = 0
    private: int = 0
    processor: float = 0.0
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    reason: str
    fate: Fate


class Instance(Protocol):
    """A running replica. All methods block: call them in a thread."""

    @property
    def pid(self) -> int: ...

    @property
    def plan(self) -> MemoryPlan | None:
        """Return how much memory it was started to take."""

    def alive(self) -> bool: ...

    def use(self) -> ProcessUse:
        """Return what it takes, with its children. Once it is gone: nothing."""

    def ending(self) -> Ending:
        """Return why it ended; to be asked once it is not alive."""

    def address(self) -> str | None:
        """`http://host:port` once the engine listens."""

    def terminate(self, grace: float) -> None:
        """Ask, wait `grace` seconds, insist."""


class Launcher(Protocol):
    """A place where replicas run. All methods block: call them in a thread."""

    def launch(self, spec: ReplicaSpec) -> Instance: ...

    def find(self, replica_id: str) -> Instance | None:
        """A replica that still runs, whoever started it."""

    def running(self) -> set[str]:
        """Ids of all replicas that still run."""

    def remains(self) -> set[str]:
        """Ids of replicas that left something behind, running or not."""

    def log_tail(self, replica_id: str, lines: int) -> str:
        """The end of what the engine wrote."""

    def log_part(self, replica_id: str, lines: int | None, offset: int) -> tuple[str, int]:
        """The last `lines`, or what follows `offset`; and the offset of what comes next."""

    def discard(self, replica_id: str) -> None:
        """Forget the run folder of a replica that is gone."""

    def set_aside(self, replica_id: str) -> None:
        """The same, but what it left is kept for a while."""
