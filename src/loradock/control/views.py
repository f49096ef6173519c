"""What the API shows of the replicas at work."""

from dataclasses import dataclass

from loradock.types.enums import AdapterTier, ReplicaState


@dataclass(frozen=True, slots=True)
class ReplicaFacts:
    """`in_flight`: requests of this replica now. `adapters`: engine name → where it is kept."""

    id: str
    state: ReplicaState
    in_flight: int
    failure: str | None
    adapters: dict[str, AdapterTier]
