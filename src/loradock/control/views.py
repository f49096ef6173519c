"""Views of the replicas at work, which the API shows."""

from collections.abc import Iterable
from dataclasses import dataclass

from loradock.checkpoints.memory_plan import MemoryPlan
from loradock.types.enums import AdapterTier, ReplicaState


@dataclass(frozen=True, slots=True)
class ReplicaFacts:
    """`in_flight`: requests of this replica now. `adapters`: engine name → where it is kept;
    `refused`: engine name → why the engine would not take it. `plan`: the memory it was started to take; `resident`:
    what it takes, in bytes."""

    id: str
    state: ReplicaState
    in_flight: int
    failure: str | None
    adapters: dict[str, AdapterTier]
    refused: dict[str, str]
    plan: MemoryPlan | None = None
    resident: int = 0


def why_not_served(adapter: str, replicas: Iterable[ReplicaFacts]) -> str | None:
    """Return the reason of the first replica that would not take it."""
    return next((replica.refused[adapter] for replica in replicas if adapter in replica.refused), None)
