"""Decides which of several replicas takes a request."""

import math
from collections.abc import Sequence
from hashlib import blake2b

from loradock.gateway.routing.upstream import Upstream

LOAD_FACTOR = 1.25
"""The ratio to the average load up to which a home takes requests, before they spill over: the bound of "Consistent
Hashing with Bounded Loads" (https://arxiv.org/abs/1608.01350)."""


def least_busy(upstreams: Sequence[Upstream]) -> Upstream:
    return min(upstreams, key=lambda upstream: upstream.in_flight)


def pick_by_affinity(key: str, upstreams: Sequence[Upstream]) -> Upstream:
    """The first replica in `key`'s own order that is not overloaded: rendezvous hashing with bounded loads.

    Every key has its order, which a replica's coming or going changes only for the keys it takes or leaves; a key
    in high demand spreads over the next ones in its order.
    """
    bound = math.ceil(LOAD_FACTOR * (sum(upstream.in_flight for upstream in upstreams) + 1) / len(upstreams))
    order = sorted(upstreams, key=lambda upstream: _weight(key, upstream.replica_id), reverse=True)
    return next((upstream for upstream in order if upstream.in_flight < bound), least_busy(upstreams))


def _weight(key: str, replica_id: str) -> bytes:
    return blake2b(f"{key}\0{replica_id}".encode(), digest_size=8).digest()
