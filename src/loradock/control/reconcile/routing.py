"""The routes of a deployment: which of its replicas answer to which name."""

from collections.abc import Iterable
from dataclasses import dataclass

from loradock.control.replicas.liveness import Health
from loradock.control.replicas.replica import Replica
from loradock.control.snapshot import Snapshot
from loradock.gateway.routing.routes import Route
from loradock.gateway.routing.upstream import Upstream
from loradock.replicas.vllm import slots
from loradock.types.enums import AttachmentState, EngineKind


@dataclass(frozen=True, slots=True)
class Back:
    """Whether replicas that have served are expected back, or others in their place; and when, if that is known."""

    expected: bool = False
    at: float | None = None


def routes_of(
    snapshot: Snapshot, ready: list[Replica], max_loras: int, back: Back, model_id: str | None = None
) -> tuple[Route, list[Route]]:
    """The base model's route and those of all attached adapters, or of one."""
    if snapshot.engine is EngineKind.VLLM:  # it would let adapters starve
        for upstream in upstreams_of(ready):
            upstream.vllm = True
            upstream.share(slots(snapshot.engine, max_loras))
    crowded = is_crowded(snapshot, max_loras)
    base = Route(snapshot.endpoint, snapshot.endpoint.name, _routable(ready), awaited=back.expected, back_at=back.at)
    adapters = [
        Route(
            endpoint=snapshot.endpoint,
            engine_name=name,
            upstreams=_routable([k for k in ready if k.holds(name, path)]),
            crowded=crowded,
            refused=refused,
            awaited=back.expected,
            back_at=back.at,
        )
        for name, path in snapshot.attached(model_id).items()
        for refused in [refusal(name, ready)]
    ]
    return base, adapters


def is_crowded(snapshot: Snapshot, max_loras: int) -> bool:
    """Whether there are more adapters than take part in one step."""
    attached = sum(bound.state is AttachmentState.ATTACHED for bound in snapshot.attachments)
    return attached > slots(snapshot.engine, max_loras)


def refusal(name: str, replicas: Iterable[Replica]) -> str | None:
    """Return why one of these replicas would not take the adapter."""
    return next((replica.refused[name] for replica in replicas if name in replica.refused), None)


def upstreams_of(replicas: Iterable[Replica]) -> tuple[Upstream, ...]:
    return tuple(replica.upstream for replica in replicas if replica.upstream is not None)


def _routable(replicas: list[Replica]) -> tuple[Upstream, ...]:
    """Return the replicas that answer, else those that have failed a check; never one that gets no new requests."""
    healthy = [replica for replica in replicas if replica.health is Health.READY]
    return upstreams_of(healthy or [replica for replica in replicas if replica.health is Health.SUSPECT])
