import shutil

import pytest

from loradock.registry.models import delete_model, list_models
from loradock.store.accounts import ensure_account
from loradock.store.models import find_model
from loradock.store.tables import Attachment, Deployment, Endpoint, Model
from loradock.types.enums import AttachmentState, JobStatus, ModelKind
from loradock.types.errors import BadRequest, ModelMissing
from loradock.types.names import new_id


@pytest.fixture
def uploaded(registry, adapter_files):
    shutil.copytree(adapter_files, registry.import_root / "lora")
    for name in ("one", "two"):
        job = registry.upload(name, model_source="file://lora")
        assert job.status is JobStatus.COMPLETE, job.status_updates
    return registry


def delete(registry, name, account=None):
    return delete_model(registry.database, registry.blobs, account or registry.account, name)


def endpoint_on(session, account, base_model) -> Deployment:
    endpoint = Endpoint(id="endpoint-1", account_id=account, name="tester/base-1", display_name="x")
    deployment = Deployment(id="d1", endpoint=endpoint, base_model=base_model, hardware="cpu")
    session.add_all([endpoint, deployment])
    session.flush()
    return deployment


def test_models_are_found_by_id_and_both_names(uploaded):
    with uploaded.database.session() as session:
        newest, oldest = list_models(session, uploaded.account)
        assert (newest.name, oldest.name) == ("tester/two", "tester/one")
        for name in (newest.id, "two", "tester/two"):
            assert find_model(session, uploaded.account, name) is newest
        assert find_model(session, ensure_account(session, "stranger").id, "tester/two") is None


def test_content_goes_with_its_last_model(uploaded):
    assert len(uploaded.stored()) == 1
    assert delete(uploaded, "one") == "tester/one"
    assert len(uploaded.stored()) == 1
    delete(uploaded, "tester/two")
    assert uploaded.stored() == []
    with pytest.raises(ModelMissing):
        delete(uploaded, "two")
    assert uploaded.upload("two", model_source="file://lora").status is JobStatus.COMPLETE
    assert len(uploaded.stored()) == 1


def test_other_accounts_models_do_not_exist(uploaded):
    with uploaded.database.session() as session:
        stranger = ensure_account(session, "stranger").id
    with pytest.raises(ModelMissing):
        delete(uploaded, "tester/one", stranger)
    assert uploaded.model("one") is not None


def test_models_in_use_stay(uploaded):
    with uploaded.database.session() as session:
        deployment = endpoint_on(session, uploaded.account, "tester/two")
        model = find_model(session, uploaded.account, "one")
        attachment = Attachment(
            id=new_id("att"),
            deployment=deployment,
            model=model,
            revision=model.revisions[0],
            engine_name=model.name,
            state=AttachmentState.ATTACHED,
        )
        session.add(attachment)
    with pytest.raises(BadRequest, match="attached to tester/base-1"):
        delete(uploaded, "one")
    with pytest.raises(BadRequest, match="base model of tester/base-1"):
        delete(uploaded, "two")
    with uploaded.database.session() as session:
        session.get(Attachment, attachment.id).state = AttachmentState.DETACHING
    with pytest.raises(BadRequest, match="try again in a moment"):
        delete(uploaded, "one")
    with uploaded.database.session() as session:
        session.delete(session.get(Attachment, attachment.id))
    assert delete(uploaded, "one") == "tester/one"


def test_models_still_uploading_stay(registry):
    with registry.database.session() as session:
        session.add(
            Model(
                id="ml_1",
                account_id=registry.account,
                name="tester/x",
                kind=ModelKind.ADAPTER,
            )
        )
    with pytest.raises(BadRequest, match="still being uploaded"):
        delete(registry, "x")
