"""Options of the control loop: how patient it is, and what replicas are given."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from loradock.control.scaling import ScalingRules
from loradock.machine.share import memory_to_give, memory_total
from loradock.types.enums import Quantization


@dataclass(frozen=True, slots=True)
class ControlOptions:
    """All times in seconds.

    `tick`: the longest pause between two looks at a deployment. `start_timeout`: process start to healthy.
    `check_timeout`: how long one health check may take. `unready_after`, `hung_after`: how long a replica may be
    without a good answer or without progress until it gets no new requests, and until it is given up; `stretch`: how
    many times as long where it uses processor time, or a signal holds it (docs/liveness.md). `drain`: how long running
    requests may finish before a replica is stopped. `grace`: from SIGTERM to SIGKILL. `restarts`: replicas lost in a
    row before the endpoint becomes ERROR. `probe_every`: how often an idle replica computes a token to show that it
    still can.
    `threads`: CPU threads per replica, 0 leaves it to the engine. `quantization`: of the built-in engine's weights.
    `max_loras` adapters take part in one step, `max_cpu_loras` are kept in a replica's memory, `max_attachments` may be
    attached to one endpoint.
    `engine_arguments` and `vllm_arguments`: those the operator gives the built-in engine and vLLM, here for telling
    replicas that were started with others.
    `clock` in seconds, monotonic. `free_memory`: what replicas may still take of this machine, of
    `total_memory`, in bytes.
    """

    tick: float = 1.0
    start_timeout: float = 600.0
    check_timeout: float = 5.0
    unready_after: float = 5.0
    hung_after: float = 60.0
    stretch: float = 5.0
    drain: float = 30.0
    detach_drain: float = 600.0
    grace: float = 10.0
    restarts: int = 3
    probe_every: float = 30.0
    max_loras: int = 32
    max_cpu_loras: int = 256
    max_attachments: int = 10_000
    threads: int = 0
    quantization: Quantization | None = None
    engine_arguments: tuple[str, ...] = ()
    vllm_arguments: tuple[str, ...] = ()
    scaling: ScalingRules = field(default_factory=ScalingRules)
    clock: Callable[[], float] = time.monotonic
    free_memory: Callable[[], int] = memory_to_give
    total_memory: Callable[[], int] = memory_total
