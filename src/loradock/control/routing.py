"""The routes of a deployment: which of its replicas answer to which name."""

from collections.abc import Iterable

from loradock.control.keeper import ReplicaKeeper
from loradock.control.snapshot import Snapshot
from loradock.gateway.routes import Route
from loradock.gateway.upstream import Upstream
from loradock.replicas.vllm import slots
from loradock.types.enums import AttachmentState, EngineKind


def routes_of(
    snapshot: Snapshot, ready: list[ReplicaKeeper], max_loras: int, model_id: str | None = None
) -> tuple[Route, list[Route]]:
    """The base model's route and those of all attached adapters, or of one."""
    if snapshot.engine is EngineKind.VLLM:  # it would let adapters starve
        for upstream in upstreams_of(ready):
            upstream.share(slots(snapshot.engine, max_loras))
    crowded = is_crowded(snapshot, max_loras)
    base = Route(snapshot.endpoint, snapshot.endpoint.name, _routable(ready))
    adapters = [
        Route(snapshot.endpoint, name, _routable([k for k in ready if k.holds(name, path)]), crowded, refused)
        for name, path in snapshot.attached(model_id).items()
        for refused in [refusal(name, ready)]
    ]
    return base, adapters


def is_crowded(snapshot: Snapshot, max_loras: int) -> bool:
    """Whether there are more adapters than take part in one step."""
    attached = sum(bound.state is AttachmentState.ATTACHED for bound in snapshot.attachments)
    return attached > slots(snapshot.engine, max_loras)


def refusal(name: str, keepers: Iterable[ReplicaKeeper]) -> str | None:
    """Why one of these replicas would not take the adapter."""
    return next((keeper.refused[name] for keeper in keepers if name in keeper.refused), None)


def upstreams_of(keepers: Iterable[ReplicaKeeper]) -> tuple[Upstream, ...]:
    return tuple(keeper.upstream for keeper in keepers if keeper.upstream is not None)


def _routable(keepers: list[ReplicaKeeper]) -> tuple[Upstream, ...]:
    """Without those that do not answer just now, unless none does."""
    return upstreams_of([keeper for keeper in keepers if keeper.answering] or keepers)
