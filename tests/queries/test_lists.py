"""What lists read: searched, sorted, cut into pages; of one account only."""

import pytest

from loradock.queries.adapters import AdapterSearch, AdapterStatus, matching_names, search_adapters
from loradock.queries.attachments import attachment_of, sum_up
from loradock.queries.endpoint_adapters import EndpointAdapters, Only, attached_matching, search_endpoint_adapters
from loradock.queries.endpoints import search_endpoints, takers
from loradock.queries.events import EventQuery, search_events, steps_behind, subject_id_of
from loradock.queries.free_adapters import free_adapters
from loradock.queries.lists import ListQuery
from loradock.queries.placed_adapters import places, ready_adapters, targets
from loradock.store.accounts import ensure_account
from loradock.store.events import record
from loradock.store.tables import Attachment, Deployment, Endpoint, Model, Revision
from loradock.telemetry.queries import AdapterUse
from loradock.types.enums import AttachmentState, AttachStep, EndpointState, ModelKind, ModelState
from tests.databases import open_database

BASE, OTHER = "acme/base", "acme/other"


@pytest.fixture
def session(tmp_path):
    """Two accounts with the same: an endpoint that runs, one in ERROR, and adapters of which two are attached."""
    database = open_database(tmp_path / "loradock.db")
    with database.session() as session:
        for slug in ("acme", "zeta"):
            account = ensure_account(session, slug)
            harbour = _endpoint(session, account, "harbour", EndpointState.STARTED)
            _endpoint(session, account, "reef", EndpointState.ERROR)
            for number, (name, base) in enumerate([("a_1", BASE), ("ab1", BASE), ("c", BASE), ("d", OTHER)]):
                model = _adapter(session, account, name, base, number)
                if name in ("a_1", "c"):
                    _attach(session, harbour, model)
        session.flush()
        yield session
    database.close()


def _endpoint(session, account, name, state):
    id_ = f"endpoint-{account.slug}-{name}"
    deployment = Deployment(id=f"dep-{id_}", base_model=BASE, hardware="cpu", state=state)
    endpoint = Endpoint(id=id_, account=account, name=f"{account.slug}/{name}-0", display_name=name)
    endpoint.deployments = [deployment]
    session.add(endpoint)
    return endpoint


def _adapter(session, account, name, base, number):
    model = Model(id=f"ml-{account.slug}-{name}", account=account, name=f"{account.slug}/{name}", base_model=base)
    model.kind, model.state = ModelKind.ADAPTER, ModelState.READY
    revision = Revision(id=f"rev-{model.id}", digest=f"{number}", size_bytes=100 * number, rank=number)
    model.revisions = [revision]
    session.add(model)
    session.flush()
    return model


def _attach(session, endpoint, model):
    row = Attachment(id=f"att-{model.id}", deployment=endpoint.deployment, model=model, revision=model.revisions[0])
    row.engine_name, row.state = model.name, AttachmentState.ATTACHED
    session.add(row)


def _use(name, ttft):
    return AdapterUse(name, 1, 0, 1, 1, ttft, ttft, None, None)


def test_endpoints(session):
    acme = ensure_account(session, "acme").id
    found = search_endpoints(session, acme, ListQuery("state"))
    assert [(row.endpoint.display_name, row.attached) for row in found.rows] == [("harbour", 2), ("reef", 0)]
    found = search_endpoints(session, acme, ListQuery("adapters", text="ree", size=1, start=0), EndpointState.ERROR)
    assert ([row.endpoint.display_name for row in found.rows], found.total, found.all) == (["reef"], 1, 2)
    assert [endpoint.display_name for endpoint in takers(session, acme)] == ["harbour"]


def test_adapters(session):
    acme = ensure_account(session, "acme").id
    rows, total = search_adapters(session, acme, AdapterSearch(ListQuery("name", descending=True, size=2, start=1)))
    assert ([row.model.name for row in rows], total) == (["acme/c", "acme/ab1"], 4)
    text = AdapterSearch(ListQuery("name", text="a_"))  # no pattern of SQL's
    assert matching_names(session, acme, text, 10) == ["acme/a_1"]
    free = AdapterSearch(ListQuery("name"), base=BASE, status=AdapterStatus.FREE)
    assert matching_names(session, acme, free, 10) == ["acme/ab1"]


def test_adapters_of_an_endpoint_by_their_use(session):
    uses = {"acme/c": _use("acme/c", 5.0)}
    which = EndpointAdapters("dep-endpoint-acme-harbour", uses, ["acme/a_1"])
    for descending in (False, True):  # what nobody asked is last
        rows, total = search_endpoint_adapters(session, which, ListQuery("ttft", descending))
        assert ([row.name for row in rows], total) == (["acme/c", "acme/a_1"], 2)
    rows, _ = search_endpoint_adapters(session, which, ListQuery("size", descending=True))
    assert [row.name for row in rows] == ["acme/c", "acme/a_1"]
    for only, name in ((Only.REFUSED, "acme/a_1"), (Only.USED, "acme/c"), (Only.IDLE, "acme/a_1")):
        which = EndpointAdapters("dep-endpoint-acme-harbour", uses, ["acme/a_1"], only)
        assert attached_matching(session, which, "") == [name]
    sums = sum_up(session, "dep-endpoint-acme-harbour")
    assert (sums.count, sums.attached, sums.mean_size) == (2, 2, 100)


def test_adapters_that_could_be_attached(session):
    acme = ensure_account(session, "acme").id
    _adapter(session, ensure_account(session, "acme"), "e", BASE, 5)
    harbour = session.get(Endpoint, "endpoint-acme-harbour")
    free = free_adapters(session, acme, harbour, ["acme/e", "zeta/ab1"], "AB", 10)
    assert [model.name for model in free.chosen] == ["acme/e"]
    assert ([model.name for model in free.others], free.matching, free.all) == (["acme/ab1"], 1, 2)


def test_adapters_by_name_with_their_places_and_targets(session):
    acme = ensure_account(session, "acme").id
    adapters = ready_adapters(session, acme, ["acme/d", "acme/c", "acme/ab1", "zeta/c", "acme/none"])
    assert [one.name for one in adapters] == ["acme/ab1", "acme/c", "acme/d"]
    assert places(adapters) == {"harbour": 1}
    assert [(one.endpoint.display_name, one.fits) for one in targets(session, acme, adapters)] == [("harbour", 2)]


def test_where_an_adapter_is_rather_than_what_it_is_leaving(session):
    model = session.get(Model, "ml-acme-c")
    left = session.get(Attachment, "att-ml-acme-c")
    left.state = AttachmentState.DETACHING
    assert attachment_of(session, model) is left
    again = Attachment(id="att-2", deployment_id="dep-endpoint-acme-reef", model=model, engine_name="x")
    again.revision = model.revisions[0]
    session.add(again)
    assert attachment_of(session, model) is again


def test_an_attach_is_one_event_with_its_steps(session):
    acme = ensure_account(session, "acme").id
    for _ in range(2):
        for step in AttachStep:
            record(session, acme, "ml-acme-c", f"attach.{step}", "said")
            session.flush()
        record(session, acme, "ml-acme-c", "detach.begun", "said")
        session.flush()
        record(session, acme, "ml-acme-c", "detach.done", "said", facts={"unloaded": True})
        session.flush()
    told = search_events(session, acme, EventQuery(subject_id="ml-acme-c"), 10)
    assert [event.kind for event in told] == ["detach.begun", "attach.route"] * 2
    assert [event.kind for event in search_events(session, acme, EventQuery(kind="attach"), 1)] == ["attach.route"]
    older = search_events(session, acme, EventQuery(beyond=told[1].id), 10)
    assert older == told[2:]
    newer = search_events(session, acme, EventQuery(newest_first=False, beyond=told[2].id), 10)
    assert newer == told[1::-1]
    steps = steps_behind(session, acme, told)
    assert {number: len(events) for number, events in steps.items()} == {
        event.id: len(AttachStep) if event.kind == "attach.route" else 2 for event in told
    }
    assert search_events(session, ensure_account(session, "zeta").id, EventQuery(), 10) == []


def test_the_subject_of_events_by_whatever_name(session):
    acme = ensure_account(session, "acme").id
    for given in ("acme/c", "ml-acme-c"):
        assert subject_id_of(session, acme, given) == "ml-acme-c"
    for given in ("harbour", "acme/harbour-0", "endpoint-acme-harbour"):
        assert subject_id_of(session, acme, given) == "endpoint-acme-harbour"
    assert subject_id_of(session, acme, "gone") == "gone"
