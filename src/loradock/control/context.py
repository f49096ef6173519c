"""The context that every part of the control loop works with."""

from dataclasses import dataclass

from loradock.control.awake import AwakeClock
from loradock.control.fleet.memory_budget import Memory
from loradock.control.options import ControlOptions
from loradock.control.work import Locks, Transactions
from loradock.replicas.http import ReplicaHttp
from loradock.replicas.launcher import Launcher


@dataclass(frozen=True, slots=True)
class ControlContext:
    """The shared parts of the control loop, the same for all deployments."""

    transact: Transactions
    launcher: Launcher
    http: ReplicaHttp
    options: ControlOptions
    locks: Locks
    awake: AwakeClock
    memory: Memory
