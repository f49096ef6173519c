"""Attaches told by one event each."""

import pytest

from loradock.api.v1.attach_summary import summarised
from loradock.store.accounts import create_key
from loradock.store.events import INTERMEDIATE_ATTACH_KINDS, Facts, list_events, record
from tests.databases import open_database


@pytest.fixture
def database(tmp_path):
    opened = open_database(tmp_path / "events.db")
    yield opened
    opened.close()


def test_each_attach_is_told_by_its_end(database):
    to_one = Facts(adapter="me/a", endpoint="me/one")
    to_two = Facts(adapter="me/b", endpoint="me/two")
    story = [
        ("attach.authorize", "me/a → me/one", to_one),
        ("attach.load", "me/a on 1 replica", to_one),
        ("attach.undone", "load failed: it is damaged", Facts(**to_two, step="load", duration_ms=20)),
        ("attach.route", "me/a on 1 replica", Facts(**to_one, duration_ms=40)),
        ("attach.undone", "the server was cut off while attaching", to_two),
        ("attach.route", "me/c on 1 replica", None),
    ]
    with database.session() as session:
        key, _ = create_key(session, "me", "test")
        account = key.account.id
        for kind, message, facts in story:
            record(session, account, "ml_a", kind, message, endpoint_id="endpoint-1", facts=facts)
    with database.session() as session:
        events = list_events(session, account, without=INTERMEDIATE_ATTACH_KINDS)
        told = [(view["message"], view.get("duration_ms")) for view in summarised(events)][-2::-1]
    assert told == [
        ("me/b → me/two: not attached: load failed: it is damaged", 20),
        ("me/a → me/one: attached in 40 ms", 40),
        ("the server was cut off while attaching", None),
        ("me/c on 1 replica", None),
    ]
