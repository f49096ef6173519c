"""What the pages ask: right sums, from any span, and nothing of other accounts."""

import pytest

from loradock.endpoints import rules
from loradock.store.accounts import create_key
from loradock.telemetry.buckets import OTHER, Bucket, Served
from loradock.telemetry.downsample import KEEP_S, downsample
from loradock.telemetry.history import History
from loradock.telemetry.meter import Meter
from loradock.telemetry.queries import Scope, endpoint_rates, per_adapter, series, totals
from loradock.telemetry.readings import Reading
from loradock.telemetry.usage import Key, Request, Tokens
from loradock.types.enums import Outcome, Visibility

NOW = 1_800_000_000


class World:
    """Alice has a public endpoint, which Bob calls too."""

    def __init__(self, database):
        self.database, self.meter, self.now = database, Meter(), float(NOW)
        self.readings = []
        self.history = History(database, self.meter, lambda: self.readings, clock=lambda: self.now)
        with database.session() as session:
            self.alices_key, self.bobs_key = create_key(session, "alice", "a")[0], create_key(session, "bob", "b")[0]
            self.alice, self.bob = self.alices_key.account.id, self.bobs_key.account.id
            new = rules.NewEndpoint(
                model="org/base", hardware="", min_replicas=1, max_replicas=1, visibility=Visibility.PUBLIC
            )
            endpoint = rules.create_endpoint(session, self.alice, "alice", new)
            self.endpoint, self.endpoint_name = endpoint.id, endpoint.name

    def call(self, key, model="alice/pirate", outcome=Outcome.OK, ttft=0.1, tokens=Tokens(10, 5)):  # noqa: B008
        first = self.now + ttft
        ended = first + 0.02 * (tokens.completion - 1)
        request = Request(
            Key(key.account.id, key.id, self.endpoint, model), self.now, first, ended, True, outcome, tokens
        )
        self.meter.count(request)

    def ask(self, query, *args, **kwargs):
        with self.database.session() as session:
            return query(session, *args, **kwargs)


@pytest.fixture
async def world(database):
    world = World(database)
    for _ in range(3):
        world.call(world.alices_key)
    world.call(world.bobs_key, tokens=Tokens(100, 50))
    world.call(world.bobs_key, model="", outcome=Outcome.SERVER_ERROR, tokens=Tokens(0, 0))
    world.history._gauges.record([Reading(world.endpoint, 4, 2, 1, 3, 7)] * 2)
    await world.history.flush()
    return world


async def test_the_owner_sees_all_traffic_at_the_endpoint(world):
    [point] = world.ask(series, world.alice, endpoint_id=world.endpoint, since=NOW - 10, until=NOW, points=1)
    assert (point.requests_per_s, point.prompt_tokens_per_s, point.completion_tokens_per_s) == (0.5, 13.0, 6.5)
    assert point.error_rate == 0.2
    assert point.ttft_p50_ms == pytest.approx(100, rel=0.25)
    assert point.per_token_p99_ms == pytest.approx(20, rel=0.25)
    assert (point.in_flight, point.replicas_ready, point.replicas_desired) == (4, 2, 3)
    adapters = world.ask(per_adapter, world.alice, world.endpoint, NOW - 60)
    assert [(use.model, use.requests, use.errors) for use in adapters] == [("alice/pirate", 4, 0), ("", 1, 1)]
    rates = world.ask(endpoint_rates, world.alice, NOW - 10, NOW)
    assert rates[world.endpoint].requests_per_s == 0.5


async def test_others_see_their_own_calls_only(world):
    [point] = world.ask(series, world.bob, endpoint_id=world.endpoint, since=NOW - 10, until=NOW, points=1)
    assert (point.requests_per_s, point.in_flight, point.replicas_ready) == (0.2, None, None)
    assert [use.requests for use in world.ask(per_adapter, world.bob, world.endpoint, NOW - 60)] == [1, 1]
    assert world.ask(endpoint_rates, world.bob, NOW - 10, NOW) == {}
    window = {"since": NOW - 60, "until": NOW}
    assert world.ask(totals, world.bob, **window, scope=Scope.ENDPOINTS) == []
    assert [total.requests for total in world.ask(totals, world.bob, **window)] == [1, 1]
    [point] = world.ask(series, world.bob, **window, points=1, model="alice/pirate")
    assert point.requests_per_s == pytest.approx(1 / 60)


async def test_usage_tables(world):
    window = {"since": NOW - 60, "until": NOW}
    [total] = world.ask(totals, world.alice, **window, by=("model", "key", "endpoint", "day"))
    assert (total.model, total.key_id, total.key_name) == ("alice/pirate", world.alices_key.id, world.alices_key.label)
    assert (total.endpoint_id, total.endpoint_name) == (world.endpoint, world.endpoint_name)
    assert (total.requests, total.prompt_tokens, total.completion_tokens) == (3, 30, 15)
    assert total.day % 86400 == 0
    [everything] = world.ask(totals, world.alice, **window, by=())
    assert (everything.requests, everything.model) == (3, None)
    [all_keys] = world.ask(totals, world.alice, **window, by=("endpoint",), scope=Scope.ENDPOINTS)
    assert (all_keys.requests, all_keys.prompt_tokens) == (5, 130)
    with pytest.raises(ValueError, match="keys"):
        world.ask(totals, world.alice, **window, by=("key",), scope=Scope.ENDPOINTS)
    assert world.ask(totals, world.alice, since=NOW, until=NOW + 60, by=()) == []


@pytest.mark.parametrize("age", [0, 3 * 3600, 3 * 86400])
async def test_sums_are_the_same_at_any_age_and_any_width(world, age):
    """Rows become coarser as they age; a chart finer than they are spreads them."""
    downsample(world.database, NOW + age)
    for points in (1, 7, 60):
        window = {"since": NOW - 4000, "until": NOW + 4000, "points": points}
        for account, requests, tokens in ((world.alice, 5, 65), (world.bob, 2, 50)):
            found = world.ask(series, account, endpoint_id=world.endpoint, **window)
            ends = [*(point.at for point in found[1:]), window["until"]]
            widths = [end - point.at for point, end in zip(found, ends, strict=True)]
            assert 1 <= len(found) <= points + 1
            assert sum(p.requests_per_s * w for p, w in zip(found, widths, strict=True)) == pytest.approx(requests)
            assert sum(p.completion_tokens_per_s * w for p, w in zip(found, widths, strict=True)) == pytest.approx(
                tokens
            )
    uses = world.ask(per_adapter, world.alice, world.endpoint, NOW - 4000)
    assert sum(use.requests for use in uses) == 5


async def test_what_is_very_old_is_gone(world):
    downsample(world.database, NOW + KEEP_S + 4000)
    assert world.ask(totals, world.alice, since=0, until=NOW * 2, by=()) == []


async def test_a_write_that_fails_is_made_up_for(world):
    world.call(world.alices_key)
    with world.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE usage RENAME TO away")
    await world.history.flush()
    with world.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO usage")
    window = {"since": 0, "until": NOW * 2, "by": ()}
    assert [total.requests for total in world.ask(totals, world.alice, **window)] == [3]
    world.call(world.alices_key)
    await world.history.flush()
    assert [total.requests for total in world.ask(totals, world.alice, **window)] == [5]


def test_too_many_keys_and_names_are_counted_together():
    bucket = Bucket(limit=3)
    for number in range(10):
        bucket.of(Key("acct", "key", "endpoint", f"m{number}")).ok += 1
    assert {key.model: usage.ok for key, usage in bucket.rows.items()} == {"m0": 1, "m1": 1, "m2": 1, OTHER: 7}
    served = Served(names=2)
    served.add(bucket)
    assert {model: usage.ok for model, usage in served.of("endpoint").items()} == {"m0": 1, "m1": 1, OTHER: 8}
