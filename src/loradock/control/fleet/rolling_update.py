"""A deployment's replicas brought to their wanted number and settings, never fewer than wanted meanwhile."""

from pathlib import Path

from loradock.control.fleet.fleet import Fleet
from loradock.control.fleet.pool import ReplicaPool
from loradock.types.enums import ReplicaState

_OUTDATED = ("replica.replaced", "it was started with other settings")
_SURGE = 1
"""Replicas beyond the wanted number while old ones are being replaced."""


def end_surplus(pool: ReplicaPool, fleet: Fleet, wanted: int, settings: str, attached: dict[str, Path]) -> int:
    """End what is too much; returns how many to launch.

    A replica started with other settings is replaced, one at a time: the new one is ready, with all that is `attached`,
    before the old one goes.
    """
    _end_stale(pool, fleet, wanted, settings, attached)
    fresh = [replica for replica in pool.serving if replica.settings == settings]
    by_use = sorted(fresh, key=lambda replica: replica.ready_since or float("inf"), reverse=True)
    for replica in by_use[: max(0, len(fresh) - wanted)]:
        fleet.end(replica, patient=True, note=("replica.ended", "no longer needed"))
    room = wanted + _SURGE - len(pool.serving) if len(pool.serving) > len(fresh) else wanted
    return max(0, min(wanted - len(fresh), room))


def _end_stale(pool: ReplicaPool, fleet: Fleet, wanted: int, settings: str, attached: dict[str, Path]) -> None:
    stale = [replica for replica in pool.serving if replica.settings != settings]
    if not stale:
        return
    spare = sum(replica.settings != settings or replica.serves(attached) for replica in pool.ready) - wanted
    for replica in stale:
        if replica.state is ReplicaState.STARTING:
            fleet.end(replica, note=_OUTDATED)
        elif spare > 0:
            fleet.end(replica, patient=True, note=_OUTDATED)
            spare -= 1
