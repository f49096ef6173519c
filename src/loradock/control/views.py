"""What the API shows of the replicas at work."""

from dataclasses import dataclass

from loradock.types.enums import AdapterTier, ReplicaState


@dataclass(frozen=True, slots=True)
class ReplicaFacts:
    """`in_flight`: requests of this replica now. `adapters`: engine name → where it is kept;
    `refused`: engine name → why the engine would not take it."""

    id: str
    state: ReplicaState
    in_flight: int
    failure: str | None
    adapters: dict[str, AdapterTier]
    refused: dict[str, str]
