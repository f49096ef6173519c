"""Attaches told by one event each."""

from datetime import timedelta

import pytest

from loradock.api.v1.attach_summary import BETWEEN, summarised
from loradock.store.accounts import create_key
from loradock.store.database import Database, migrate
from loradock.store.events import list_events, record
from loradock.store.tables import now


@pytest.fixture
def database(tmp_path):
    opened = Database(f"sqlite:///{tmp_path / 'events.db'}")
    migrate(opened.engine)
    yield opened
    opened.close()


def test_each_attach_is_told_with_its_own_beginning(database):
    began = now()
    story = [
        ("ml_a", "attach.authorize", "me/a → me/one", 0),
        ("ml_b", "attach.authorize", "me/b → me/two", 5),
        ("ml_a", "attach.load", "me/a on 1 replica", 10),
        ("ml_b", "attach.undone", "load failed: it is damaged", 25),
        ("ml_a", "attach.route", "me/a on 1 replica", 40),
        ("ml_a", "attach.authorize", "me/a → me/two", 100),
        ("ml_a", "attach.route", "me/a on 2 replicas", 107),
        ("ml_c", "attach.route", "me/c on 1 replica", 110),
    ]
    with database.session() as session:
        key, _ = create_key(session, "me", "test")
        account = key.account.id
        for subject, kind, message, after in story:
            record(session, account, subject, kind, message, began + timedelta(milliseconds=after))
    with database.session() as session:
        events = list_events(session, account, without=BETWEEN)
        told = [(view["message"], view.get("duration_ms")) for view in summarised(session, events)][-2::-1]
    assert told == [
        ("me/b → me/two: not attached: load failed: it is damaged", 20),
        ("me/a → me/one: attached in 40 ms", 40),
        ("me/a → me/two: attached in 7 ms", 7),
        ("me/c on 1 replica", None),
    ]
