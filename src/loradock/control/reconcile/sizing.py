"""Decides how many replicas a deployment should have now, and since when nobody has asked anything of it."""

from collections.abc import Iterable

from loradock.control.options import ControlOptions
from loradock.control.scaling import Autoscaler
from loradock.control.snapshot import Snapshot
from loradock.gateway.routing.upstream import Upstream

_MINUTE_S = 60.0


class Sizing:
    """Fed at every turn of a deployment's loop with the replicas it has."""

    def __init__(self, options: ControlOptions) -> None:
        self._clock = options.clock
        self._scaler = Autoscaler(options.scaling)
        self._current = 0
        self._in_flight = 0
        self._accepted = 0
        self._active_at = self._clock()

    @property
    def current(self) -> int:
        """The number of replicas that was wanted last; 0 at rest."""
        return self._current

    def wanted(self, snapshot: Snapshot, upstreams: Iterable[Upstream], serving: int) -> int:
        """Return how many replicas there should be. `serving` is the number there is, which a new loop goes on from."""
        self._look(list(upstreams))
        low, high = snapshot.min_replicas, snapshot.max_replicas
        current = self._current or max(low, min(high, serving))
        self._current = self._scaler.wanted(self._clock(), self._in_flight, current, low, high)
        return self._current

    def idle_too_long(self, snapshot: Snapshot) -> bool:
        if not snapshot.inactive_timeout:
            return False
        return self._clock() - self._active_at >= snapshot.inactive_timeout * _MINUTE_S

    def stay_awake(self) -> None:
        """Idle time begins once there is somebody to be idle."""
        self._active_at = self._clock()

    def rest(self) -> None:
        """The deployment does not run: when it does again, it begins at its least size."""
        self._current = 0

    def _look(self, upstreams: list[Upstream]) -> None:
        self._in_flight = sum(upstream.in_flight for upstream in upstreams)
        accepted = sum(upstream.accepted for upstream in upstreams)
        if self._in_flight or accepted != self._accepted:
            self._active_at = self._clock()
        self._accepted = accepted
