"""Which replica takes a request."""

from collections import Counter
from contextlib import ExitStack

from loradock.gateway.routing.placement import pick_by_affinity
from loradock.gateway.routing.routes import EndpointFacts, Route
from loradock.gateway.routing.upstream import Upstream
from loradock.types.enums import EndpointState

FACTS = EndpointFacts("endpoint-1", "alice/base-1", "acc_1", "alice", False, EndpointState.STARTED)


def replicas(count: int) -> list[Upstream]:
    return [Upstream(f"rep_{number}", "http://x", "secret") for number in range(count)]


def test_an_adapter_stays_at_home_and_homes_are_spread_evenly():
    some = replicas(4)
    homes = {f"a/{n}": pick_by_affinity(f"a/{n}", some) for n in range(400)}
    assert all(pick_by_affinity(name, some) is home for name, home in homes.items())
    assert all(60 < count < 140 for count in Counter(home.replica_id for home in homes.values()).values())


def test_a_replica_that_goes_moves_only_its_own_adapters():
    some = replicas(4)
    before = {f"a/{n}": pick_by_affinity(f"a/{n}", some) for n in range(200)}
    left = some[:3]
    moved = [name for name, home in before.items() if pick_by_affinity(name, left) is not home]
    assert sorted(moved) == sorted(name for name, home in before.items() if home is some[3])


def test_a_hot_adapter_spreads_when_its_home_is_full():
    some = replicas(4)
    route = Route(FACTS, "a/hot", tuple(some), crowded=True)
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(route.pick().lease("a/hot"))
        assert max(replica.in_flight for replica in some) <= 13  # a quarter above the average, rounded up


def test_without_crowding_the_least_busy_takes_it():
    some = replicas(3)
    route = Route(FACTS, "a/one", tuple(some))
    with some[0].lease("x"), some[1].lease("x"):
        assert route.pick() is some[2]


def test_requests_of_one_conversation_meet_again():
    some = replicas(5)
    route = Route(FACTS, "a/one", tuple(some))
    homes = {key: route.pick(affinity=key) for key in map(str, range(50))}
    assert all(route.pick(affinity=key) is home for key, home in homes.items())
    assert len(set(map(id, homes.values()))) == 5


def test_the_replica_to_avoid_is_avoided_at_home_too():
    some = replicas(2)
    route = Route(FACTS, "a/one", tuple(some), crowded=True)
    home = route.pick()
    assert route.pick(avoid=home) is not home
