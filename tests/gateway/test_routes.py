"""The route table: whose a name is, and who is told of a change."""

import asyncio

import pytest

from loradock.gateway.routing.routes import EndpointFacts, Route, RouteTable
from loradock.gateway.routing.upstream import Upstream
from loradock.gateway.routing.waking import Waker
from loradock.types.enums import EndpointState
from loradock.types.errors import ModelNotAvailable, Unavailable
from tests.rig import actor


def base(name, state=EndpointState.STARTED, **more):
    facts = EndpointFacts(f"endpoint-{name}", f"me/{name}", "acc_1", "me", public=False, state=state, **more)
    return Route(facts, facts.name, (Upstream(f"rep_{name}", "http://127.0.0.1:1", "secret"),))


def adapter(of, name):
    return Route(of.endpoint, f"me/{name}", of.upstreams)


def leads_to(table, name):
    try:
        return table.resolve(name, actor("acc_1", "me")).endpoint.id
    except ModelNotAvailable:
        return None


@pytest.fixture
def table():
    table = RouteTable()
    table.one, table.two = base("one"), base("two")
    table.publish("dep_1", table.one, [adapter(table.one, "poet"), adapter(table.one, "pirate")])
    table.publish("dep_2", table.two, [])
    return table


def test_an_adapter_comes_and_goes_under_both_of_its_names(table):
    table.amend("dep_1", ["me/poet"], [adapter(table.one, "clerk")])
    for name in ("poet", "me/one:me/poet"):
        assert leads_to(table, name) is None
    for name in ("clerk", "me/one:me/clerk", "pirate", "me/one", "endpoint-one"):
        assert leads_to(table, name) == "endpoint-one"
    table.withdraw("dep_1")
    assert {leads_to(table, name) for name in ("clerk", "pirate", "me/one", "endpoint-one")} == {None}
    assert leads_to(table, "me/two") == "endpoint-two"


def test_what_another_endpoint_has_taken_over_stays_there(table):
    table.amend("dep_2", [], [adapter(table.two, "poet")])
    table.amend("dep_1", ["me/poet"], [])
    assert leads_to(table, "poet") == "endpoint-two"
    table.withdraw("dep_1")
    assert leads_to(table, "poet") == "endpoint-two"


def test_an_adapter_named_like_an_endpoint_does_not_take_its_name(table):
    table.amend("dep_2", [], [adapter(table.two, "one")])
    assert leads_to(table, "me/one") == "endpoint-one"
    assert leads_to(table, "me/two:me/one") == "endpoint-two"
    table.amend("dep_2", ["me/one"], [])
    assert leads_to(table, "me/one") == "endpoint-one"


def test_an_endpoint_gets_its_name_though_an_adapter_had_it_before(table):
    table.amend("dep_2", [], [adapter(table.two, "three")])
    table.publish("dep_3", base("three"), [])
    assert leads_to(table, "me/three") == "endpoint-three"
    table.amend("dep_2", ["me/three"], [])
    assert leads_to(table, "me/three") == "endpoint-three"


def test_a_short_name_leads_there_also_in_a_combined_id(table):
    for name in ("me/one:poet", "me/one:me/poet", "poet"):
        assert leads_to(table, name) == "endpoint-one"
    for name in ("me/two:poet", "me/one:you/poet", ":poet", "me/one:", "a:b:poet"):
        assert leads_to(table, name) is None


@pytest.mark.parametrize(
    ("state", "headers"),
    {
        EndpointState.PENDING: {"retry-after": "1"},
        EndpointState.STARTING: {"retry-after": "1"},
        EndpointState.STARTED: {"retry-after": "1"},
        EndpointState.STOPPING: {"x-should-retry": "false"},
        EndpointState.STOPPED: {"x-should-retry": "false"},
        EndpointState.ERROR: {"x-should-retry": "false"},
    }.items(),
)
def test_an_endpoint_that_does_not_answer_is_unavailable_and_clients_wait_only_for_one_that_comes(state, headers):
    route = base("idle", state)
    with pytest.raises(Unavailable, match=f"me/idle is {state}") as told:
        Route(route.endpoint, route.engine_name, ()).pick()
    assert told.value.status == 503
    assert told.value.headers() == headers


async def test_who_waits_for_an_endpoint_is_told_that_it_was_deleted(table):
    resting = base("resting", EndpointState.STOPPED, auto_start=True)
    table.publish("dep_3", Route(resting.endpoint, resting.engine_name, ()), [])
    asked = []
    waiting = asyncio.create_task(Waker(table, asked.append).resolve("me/resting", actor("acc_1", "me")))
    await asyncio.sleep(0)
    assert asked == [resting.endpoint]
    table.withdraw("dep_3")
    with pytest.raises(ModelNotAvailable):
        async with asyncio.timeout(10):
            await waiting
