"""Whether a request may be sent to another replica after the one that had it was lost.

Most were there by chance and are sent on. One that may have been the reason is not, or it would end the next replica
too: nobody knows for certain, so this weighs how the replica ended, how large the request is, and who else was there.
"""

from dataclasses import dataclass

from loradock.gateway.routing.upstream import Upstream
from loradock.replicas.connections import listens
from loradock.types.enums import Fate
from loradock.types.errors import ReplicaLost, RequestEndedReplica

_LARGE = 256 << 10
"""Bytes of a body that nobody sends by chance: about ten times what a context of 8,192 tokens holds."""

_MOST = 2
_SOON_S, _SURELY_S = 0.3, 3.0


@dataclass(frozen=True, slots=True)
class Loss:
    """`reached`: the replica may have seen the request. `in_flight`: how many it had when they broke, this included."""

    upstream: Upstream
    reached: bool
    in_flight: int


class Again:
    """The state of a retry of one request, whose body has `size` bytes. `lost` are replicas that are gone, `avoid` the
    one that broke off last."""

    def __init__(self, size: int) -> None:
        self.lost: set[Upstream] = set()
        self.avoid: Upstream | None = None
        self._size = size
        self._broken = self._deaths = 0

    async def allow(self, loss: Loss) -> None:
        """Raises when the request is not to be sent again: ReplicaLost where clients may, else RequestEndedReplica."""
        self.avoid = loss.upstream
        if not loss.reached:
            self.lost.add(loss.upstream)
            return
        self._broken += 1
        fate = await _fate(loss.upstream)
        if fate is not None:
            self.lost.add(loss.upstream)
            self._deaths += 1
            if self._deaths == _MOST and fate is not Fate.KILLED:
                raise RequestEndedReplica(count="Two replicas")
            if self._is_suspect(fate, loss.in_flight):
                raise RequestEndedReplica(count="The replica")
        if self._broken == _MOST:
            raise ReplicaLost

    def _is_suspect(self, fate: Fate, in_flight: int) -> bool:
        if fate is Fate.KILLED:
            return self._size > _LARGE  # there are programs that do what the kernel does for want of memory
        alone = in_flight == 1 and fate is not Fate.UNKNOWN
        return alone or self._size > _LARGE


async def _fate(upstream: Upstream) -> Fate | None:
    """None: it lives, and only the connection broke. Whoever looks after it knows first."""
    fate = await upstream.fate_within(_SOON_S)
    if fate is None and not await listens(upstream.address):
        fate = await upstream.fate_within(_SURELY_S) or Fate.UNKNOWN
    return fate
