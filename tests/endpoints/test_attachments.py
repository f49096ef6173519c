import pytest

from loradock.endpoints import attachments, rules
from loradock.store.accounts import ensure_account
from loradock.store.tables import Attachment, Model, Revision
from loradock.types.enums import AttachmentState, DesiredState, EndpointKind, ModelKind, ModelState, Visibility
from loradock.types.errors import (
    AlreadyBound,
    BadCombinedId,
    BadRequest,
    BaseModelMismatch,
    EndpointMissing,
    EndpointNameMismatch,
    LoraDisabled,
    ModelMissing,
    NotBound,
    NotDedicated,
    PublicEndpoint,
)
from loradock.types.names import new_id
from tests.databases import open_database


@pytest.fixture
def session(tmp_path):
    database = open_database(tmp_path / "loradock.db")
    with database.session() as session:
        yield session
    database.close()


@pytest.fixture
def account(session):
    return ensure_account(session, "acme")


@pytest.fixture
def make_endpoint(session, account):
    def make(**changes):
        new = rules.NewEndpoint("Org/Base", "", 1, 1, desired=DesiredState.STOPPED, **changes)
        return rules.create_endpoint(session, account.id, account.slug, new)

    return make


def add_adapter(session, account, name="poet", base="Org/Base", state=ModelState.READY):
    model = Model(
        id=new_id("ml"),
        account_id=account.id,
        name=f"{account.slug}/{name}",
        kind=ModelKind.ADAPTER,
        state=state,
        base_model=base,
    )
    if state is ModelState.READY:
        model.revisions = [Revision(id=new_id("rev"), digest="d", size_bytes=1, rank=8)]
    session.add(model)
    session.flush()
    return model


def bind(session, endpoint, adapter, state=AttachmentState.ATTACHED):
    row = Attachment(
        id=new_id("att"),
        deployment_id=endpoint.deployment.id,
        model_id=adapter.id,
        revision_id=adapter.revisions[0].id,
        engine_name=adapter.name,
        state=state,
    )
    session.add(row)
    session.flush()
    return row


@pytest.mark.parametrize("model_id", ["", "x", ":", "a:", ":b", "a:b:c"])
def test_a_combined_id_has_one_colon_and_two_halves(session, account, model_id):
    with pytest.raises(BadCombinedId):
        attachments.resolve_pair(session, account.id, "endpoint-x", model_id)


def test_a_pair_is_found_by_id_or_name_and_by_full_or_short_adapter_name(session, account, make_endpoint):
    endpoint, adapter = make_endpoint(), add_adapter(session, account)
    for reference in (endpoint.id, endpoint.name):
        for name in ("acme/poet", "poet", adapter.id):
            found = attachments.resolve_pair(session, account.id, reference, f"{endpoint.name}:{name}")
            assert found == (endpoint, adapter)


def test_what_is_another_accounts_is_missing(session, account, make_endpoint):
    endpoint, other = make_endpoint(), ensure_account(session, "other")
    theirs = add_adapter(session, other)
    with pytest.raises(EndpointMissing):
        attachments.resolve_pair(session, other.id, endpoint.id, f"{endpoint.name}:{theirs.name}")
    with pytest.raises(ModelMissing):
        attachments.resolve_pair(session, account.id, endpoint.id, f"{endpoint.name}:{theirs.name}")


def test_the_prefix_must_be_this_endpoints_name(session, account, make_endpoint):
    endpoint, other = make_endpoint(), make_endpoint()
    add_adapter(session, account)
    for prefix in (other.name, endpoint.id, endpoint.name.upper()):
        with pytest.raises(EndpointNameMismatch):
            attachments.resolve_pair(session, account.id, endpoint.id, f"{prefix}:poet")


def test_the_name_to_lock_is_that_of_the_adapter_that_is_found(session, account, make_endpoint):
    endpoint = make_endpoint()
    poet = add_adapter(session, account, name="poet")
    odd = add_adapter(session, account, name=poet.id)  # called like another one's id
    for name, found in (("poet", poet), (poet.name, poet), (odd.name, odd), (poet.id, odd), (odd.id, odd)):
        model_id = f"{endpoint.name}:{name}"
        assert attachments.resolve_pair(session, account.id, endpoint.id, model_id) == (endpoint, found)
        assert attachments.adapter_name(session, account.id, endpoint.name, model_id) == found.name


def test_what_is_wrong_is_said_before_anything_is_locked(session, account, make_endpoint):
    endpoint = make_endpoint()
    mine, theirs = add_adapter(session, account), add_adapter(session, ensure_account(session, "other"))
    for reference, prefix, name, refusal in (
        ("endpoint-x", endpoint.name, mine.name, EndpointMissing),
        (endpoint.id, "alice/other", mine.name, EndpointNameMismatch),
        (endpoint.id, endpoint.name, theirs.name, ModelMissing),
        (endpoint.id, endpoint.name, theirs.id, ModelMissing),
    ):
        with pytest.raises(refusal):
            attachments.adapter_name(session, account.id, reference, f"{prefix}:{name}")


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"kind": EndpointKind.SERVERLESS}, NotDedicated),
        ({"visibility": Visibility.PUBLIC}, PublicEndpoint),
        ({"lora_enabled": False}, LoraDisabled),
    ],
    ids=str,
)
def test_unsuitable_targets(session, account, make_endpoint, changes, refusal):
    with pytest.raises(refusal):
        attachments.check_attachable(session, make_endpoint(**changes), add_adapter(session, account))


@pytest.mark.parametrize("base", ["Org/Base", "org/base", "Org/Base-Lora", "ORG/BASE-lora"])
def test_bases_match_whatever_their_case_and_suffix(session, account, make_endpoint, base):
    assert attachments.check_attachable(session, make_endpoint(), add_adapter(session, account, base=base)) is None


@pytest.mark.parametrize("base", ["Org/Base2", "Other/Base", None])
def test_other_bases_do_not_match(session, account, make_endpoint, base):
    with pytest.raises(BaseModelMismatch):
        attachments.check_attachable(session, make_endpoint(), add_adapter(session, account, base=base))


def test_an_adapter_still_uploading_is_refused(session, account, make_endpoint):
    adapter = add_adapter(session, account, state=ModelState.UPLOADING)
    with pytest.raises(BadRequest, match="still being uploaded"):
        attachments.check_attachable(session, make_endpoint(), adapter)


def test_an_adapter_is_bound_once_and_may_be_bound_again_where_it_is(session, account, make_endpoint):
    endpoint, other, adapter = make_endpoint(), make_endpoint(), add_adapter(session, account)
    row = bind(session, endpoint, adapter)
    assert attachments.check_attachable(session, endpoint, adapter) is row
    assert attachments.check_detachable(session, endpoint, adapter) is row
    with pytest.raises(AlreadyBound):
        attachments.check_attachable(session, other, adapter)
    with pytest.raises(NotBound):
        attachments.check_detachable(session, other, adapter)


def test_one_that_drains_away_is_not_bound(session, account, make_endpoint):
    endpoint, other, adapter = make_endpoint(), make_endpoint(), add_adapter(session, account)
    bind(session, endpoint, adapter, AttachmentState.DETACHING)
    assert attachments.check_attachable(session, other, adapter) is None
    with pytest.raises(NotBound):
        attachments.check_detachable(session, endpoint, adapter)
    assert rules.attached_names(session, endpoint) == []
    rules.check_deletable(endpoint)
