"""Which requests are sent on after a replica was lost, and which may have been the reason."""

import pytest

from loradock.gateway.proxy.retry import Again, Loss
from loradock.gateway.routing.upstream import Upstream
from loradock.types.enums import Fate
from loradock.types.errors import ReplicaLost, RequestEndedReplica

SMALL, LARGE = 1 << 10, 15 << 20


def lost(fate, *, in_flight=8, reached=True):
    upstream = Upstream("rep_1", "http://127.0.0.1:9", "secret")
    if fate is not None:
        upstream.lose(fate)
    return Loss(upstream, reached, in_flight)


@pytest.mark.parametrize("fate", [Fate.KILLED, Fate.OUT_OF_MEMORY, Fate.CRASHED, Fate.STUCK, Fate.UNKNOWN])
async def test_one_of_many_is_sent_on(fate):
    again, loss = Again(SMALL), lost(fate)
    await again.allow(loss)
    assert again.lost == {loss.upstream}


@pytest.mark.parametrize("fate", Fate)
@pytest.mark.parametrize("in_flight", [1, 8])
async def test_a_large_one_is_never_sent_on(fate, in_flight):
    with pytest.raises(RequestEndedReplica):
        await Again(LARGE).allow(lost(fate, in_flight=in_flight))


@pytest.mark.parametrize("fate", [Fate.OUT_OF_MEMORY, Fate.CRASHED, Fate.STUCK])
async def test_one_that_was_alone_is_not_sent_on(fate):
    with pytest.raises(RequestEndedReplica):
        await Again(SMALL).allow(lost(fate, in_flight=1))


async def test_one_that_was_alone_when_its_replica_was_killed_is_sent_on():
    await Again(SMALL).allow(lost(Fate.KILLED, in_flight=1))


@pytest.mark.parametrize(("fate", "error"), [(Fate.KILLED, ReplicaLost), (Fate.CRASHED, RequestEndedReplica)])
async def test_one_that_was_there_twice_is_not_sent_on(fate, error):
    again = Again(SMALL)
    await again.allow(lost(fate))
    with pytest.raises(error):
        await again.allow(lost(fate))


async def test_a_replica_that_was_not_reached_has_not_seen_the_request():
    again = Again(LARGE)
    for _ in range(5):
        await again.allow(lost(Fate.CRASHED, in_flight=1, reached=False))
    assert len(again.lost) == 5


async def test_how_many_were_in_flight_is_counted_when_the_first_of_them_breaks():
    upstream = Upstream("rep_1", "http://127.0.0.1:9", "secret")
    for _ in range(3):
        upstream.begin("a")
    counted = []
    for _ in range(3):
        counted.append(upstream.broke())
        upstream.end("a")
    assert counted == [3, 3, 3]
