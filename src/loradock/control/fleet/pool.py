"""The replicas of one deployment, by their state."""

from loradock.control.replicas.liveness import Health
from loradock.control.replicas.replica import Replica
from loradock.types.enums import ReplicaState


class ReplicaPool:
    """`replicas` by id, from before the launch of each until its process is gone; those being ended are still there."""

    def __init__(self) -> None:
        self.replicas: dict[str, Replica] = {}
        self.has_served = False
        """Whether a replica has been ready since it was begun."""
        self._took: float | None = None

    def of_state(self, *states: ReplicaState) -> list[Replica]:
        return [replica for replica in self.replicas.values() if replica.state in states]

    @property
    def starting(self) -> list[Replica]:
        return self.of_state(ReplicaState.STARTING)

    @property
    def ready(self) -> list[Replica]:
        return self.of_state(ReplicaState.READY)

    @property
    def serving(self) -> list[Replica]:
        """The replicas that are, or will be, of use."""
        return self.of_state(ReplicaState.STARTING, ReplicaState.READY)

    @property
    def answering(self) -> list[Replica]:
        """The ready replicas that answer just now; all ready ones if none does."""
        return [replica for replica in self.ready if replica.health is Health.READY] or self.ready

    @property
    def back_at(self) -> float | None:
        """The time (of time.monotonic) when the next replica should be ready, by how long the last one took."""
        took = [k.ready_since - k.begun for k in self.replicas.values() if k.ready_since is not None]
        self._took = took[-1] if took else self._took
        begun = [replica.begun for replica in self.starting]
        return None if self._took is None or not begun else min(begun) + self._took
