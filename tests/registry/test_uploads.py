"""From every source to a published revision, or to nothing at all."""

import io
import json
import logging
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from sqlalchemy import select

from loradock.checkpoints.adapters.inspection import inspect_adapter
from loradock.checkpoints.adapters.packed import PACKED_FILE, is_packed
from loradock.registry.packed import keep_packed
from loradock.registry.uploads.upload_request import NameUsed
from loradock.store.tables import Model
from loradock.types.enums import JobStatus, ModelKind, ModelState
from loradock.types.errors import AlreadyBound, BadRequest, TooLarge
from tests.registry.rig import last_message, open_registry

FILES = {"adapter_config.json", "adapter_model.safetensors"}


def zipped(folder: Path, prefix: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, prefix + file.name)
    return buffer.getvalue()


def tarred(folder: Path, prefix: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(folder, prefix or ".")
    return buffer.getvalue()


def check_published(registry, job, name="mine"):
    assert job.status is JobStatus.COMPLETE, job.status_updates
    model = registry.model(name)
    assert (model.state, model.kind, model.base_model) == (ModelState.READY, ModelKind.ADAPTER, "tester/tiny")
    revision = model.revisions[0]
    assert (revision.rank, revision.target_modules) == (4, ["q_proj", "v_proj"])
    folder = registry.blobs.path(revision.digest)
    assert {file.name for file in folder.iterdir()} == FILES | {PACKED_FILE}
    assert revision.size_bytes == sum((folder / file).stat().st_size for file in FILES)
    assert is_packed(folder)
    assert inspect_adapter(folder, None).max_rank == 4
    assert registry.leftovers() == []


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("prefix", ["", "my-lora/"])
def test_archives_by_url(registry, web, adapter_files, pack, prefix):
    url = web.serve("/lora", pack(adapter_files, prefix))
    job = registry.upload(model_source=f"{url}?X-Signature=secret", description="words")
    check_published(registry, job)
    assert job.args == {"description": "words", "modelName": "tester/mine", "modelSource": url}
    assert job.status_updates[0]["status"] == "Queued"
    assert "secret" not in json.dumps(job.status_updates)


def test_what_was_uploaded_by_an_earlier_version_is_packed_when_it_comes_again(registry, web, adapter_files):
    url = web.serve("/lora", zipped(adapter_files))
    check_published(registry, registry.upload(model_source=url))
    (registry.blobs.path(registry.model().revisions[0].digest) / PACKED_FILE).unlink()
    check_published(registry, registry.upload("again", model_source=url), "again")


def test_an_adapter_that_cannot_be_packed_is_accepted_nevertheless(registry, web, adapter_files, monkeypatch, caplog):
    def full(folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("loradock.registry.packed.write_packed", full)
    job = registry.upload(model_source=web.serve("/lora", zipped(adapter_files)))
    assert job.status is JobStatus.COMPLETE
    assert {file.name for file in registry.blobs.path(registry.model().revisions[0].digest).iterdir()} == FILES
    assert "No space left" in caplog.text


def test_a_model_that_is_deleted_while_it_is_packed_harms_nobody(tmp_path, caplog):
    keep_packed(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    keep_packed(tmp_path / "empty")
    assert caplog.text.count("could not be packed") == 2
    assert list((tmp_path / "empty").iterdir()) == []


def test_redirects_are_followed_a_few_times(registry, web, adapter_files):
    web.serve("/end", zipped(adapter_files))
    for hop in range(5):
        web.answers[f"/{hop}"] = (302, {"Location": f"/{hop + 1}" if hop < 4 else "/end"}, b"")
    check_published(registry, registry.upload(model_source=f"{web.url}/0"))
    web.answers["/loop"] = (302, {"Location": "/loop"}, b"")
    assert "redirects more than 5 times" in last_message(registry.upload("loop", model_source=f"{web.url}/loop"))
    web.answers["/file"] = (302, {"Location": "file:///etc/passwd"}, b"")
    assert "not an http(s) URL" in last_message(registry.upload("file", model_source=f"{web.url}/file"))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, {}, b""), "answered 404"),
        ((403, {}, b""), "expired"),
        ((200, {}, b"<html>"), "neither a .zip nor a .tar.gz"),
        ((200, {"Content-Length": "9999", "Connection": "close"}, b"PK\x03\x04"), "cannot be downloaded"),
        ((200, {"Content-Length": str(1 << 40), "Connection": "close"}, b"PK"), "the limit of this server"),
        ((200, {}, b"\x1f\x8b" + b"\0" * 600), "damaged"),
    ],
)
def test_downloads_that_fail(registry, web, answer, said):
    web.answers["/lora"] = answer
    job = registry.upload(model_source=f"{web.url}/lora")
    assert job.status is JobStatus.FAILED
    assert said in last_message(job)
    assert registry.model() is None
    assert registry.leftovers() == registry.stored() == []


def test_a_hub_repository(registry, hub, adapter_files, caplog):
    shutil.copytree(adapter_files, hub.root / "someone" / "lora")
    (hub.root / "someone" / "lora" / "optimizer.pt").write_bytes(b"never fetched")
    hub.private.add("someone/lora")
    caplog.set_level(logging.DEBUG)
    refused = registry.upload(model_source="someone/lora")
    assert "someone/lora does not exist on the hub, or is private" in last_message(refused)
    check_published(registry, registry.upload(model_source="someone/lora", hf_token=hub.token))
    check_published(
        registry, registry.upload("by-url", model_source=f"{hub.site.url}/someone/lora", hf_token=hub.token), "by-url"
    )
    fetched = {path for method, path, _ in hub.site.requests if method == "GET" and "/resolve/" in path}
    assert {path.rpartition("/")[2] for path in fetched} == FILES
    assert all("/resolve/0123456789abcdef" in path for path in fetched)
    stored = (registry.data_dir / "loradock.db").read_bytes() + (registry.data_dir / "loradock.db-wal").read_bytes()
    assert hub.token.encode() not in stored
    assert hub.token not in caplog.text


def test_a_hub_repository_of_pickles(registry, hub, adapter_files):
    repo = Path(shutil.copytree(adapter_files, hub.root / "someone" / "old"))
    (repo / "adapter_model.safetensors").rename(repo / "adapter_model.bin")
    assert "adapter_model.bin is a pickle" in last_message(registry.upload(model_source="someone/old"))


def test_folders_and_archives_under_the_import_root(registry, adapter_files):
    shutil.copytree(adapter_files, registry.import_root / "a lora")
    (registry.import_root / "packed.zip").write_bytes(zipped(adapter_files))
    check_published(registry, registry.upload(model_source="file://a%20lora"))
    check_published(registry, registry.upload("two", model_source=f"file://{registry.import_root}/packed.zip"), "two")
    assert len(registry.stored()) == 1


def test_the_import_root_is_a_fence(registry, adapter_files, tmp_path):
    (registry.import_root / "link").symlink_to(adapter_files)
    inner = registry.import_root / "inner"
    inner.mkdir()
    for name in FILES:
        (inner / name).symlink_to(adapter_files / name)
    for source in ("file:///etc", "file://../data", "file://link", "file://missing", "file://a%00b"):
        with pytest.raises(BadRequest, match="under the import root"):
            registry.upload(model_source=source)
    assert "under the import root" in last_message(registry.upload(model_source="file://inner"))
    assert registry.stored() == []


def test_files_in_the_request(registry, adapter_files):
    received = registry.uploads.receive()
    for file in [*adapter_files.iterdir()]:
        with received.open(f"my-lora/{file.name}") as sink:
            sink.write(file.read_bytes())
    check_published(registry, registry.upload(received=received))
    received = registry.uploads.receive()
    with received.open("lora.tar.gz") as sink:
        sink.write(tarred(adapter_files))
    check_published(registry, registry.upload("two", received=received), "two")


def test_files_in_the_request_are_limited(registry):
    received = registry.uploads.receive()
    with pytest.raises(BadRequest, match="outside"), received.open("../adapter_config.json"):
        pass
    with received.open("optimizer.pt") as sink:
        sink.write(b"0" * (8 << 20))
        with pytest.raises(TooLarge):
            sink.write(b"0")
    received.discard()
    assert registry.leftovers() == []


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"model_source": "s3://bucket/key"}, "is not a valid source"),
        ({"model_source": "just-a-name"}, "is not a valid source"),
        ({"model_source": "a/../b"}, "is not a valid source"),
        ({"model_source": "a/b", "base_model": "a/b/c"}, "is not a valid model name"),
        ({"model_source": "a/b", "base_model": "a:b"}, "is not a valid model name"),
        ({"model_source": "a/b", "kind": ModelKind.MODEL, "base_model": "a/b"}, "base_model is for adapters"),
        ({"model_source": "a/b", "kind": ModelKind.MODEL, "lora_model": "e"}, "lora_model is for adapters"),
        ({"model_source": "a/b", "description": "x" * 3000}, "description"),
    ],
)
def test_requests_that_make_no_sense(registry, request_, said):
    with pytest.raises(BadRequest, match=said):
        registry.upload(**request_)
    assert registry.model() is None


def test_a_name_is_taken_until_the_upload_fails(registry, web, adapter_files):
    good = web.serve("/good", zipped(adapter_files))
    assert registry.upload(model_source=f"{web.url}/nothing").status is JobStatus.FAILED
    check_published(registry, registry.upload(model_source=good))
    with pytest.raises(NameUsed, match=r"'tester/mine' is already used.*models delete tester/mine"):
        registry.upload(model_source=good)


def test_the_base_model(registry, web, adapter, base_files):
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "/home/me/llama"}))
    url = web.serve("/lora", zipped(adapter))
    assert "'/home/me/llama' as its base model" in last_message(registry.upload(model_source=url))
    shutil.copytree(base_files, registry.import_root / "Org" / "Tiny")
    job = registry.upload("explicit", model_source=url, base_model="Org/Tiny-lora")
    assert "shapes agree with Org/Tiny" in last_message(job)
    assert registry.model("explicit").base_model == "Org/Tiny"
    job = registry.upload("elsewhere", model_source=url, lora_base="Org/Other")
    assert "shapes will be checked at attach against Org/Other" in last_message(job)
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": None}))
    job = registry.upload("none", model_source=web.serve("/none", zipped(adapter)))
    assert "say which with base_model" in last_message(job)


def test_an_adapter_of_another_base_is_refused(registry, web, adapter_files):
    url = web.serve("/lora", zipped(adapter_files))
    job = registry.upload(model_source=url, base_model="HuggingFaceTB/SmolLM2-135M-Instruct")
    assert job.status is JobStatus.FAILED
    assert "it belongs to another base" in last_message(job)
    assert registry.model() is None
    assert registry.stored() == []


def test_what_follows_an_upload(tmp_path, hub, web, adapter_files):
    url = web.serve("/lora", zipped(adapter_files))
    calls = []

    def attach_the_first(*arguments):
        calls.append(arguments)
        if len(calls) > 1:
            raise AlreadyBound

    registry = open_registry(tmp_path / "data", tmp_path, hub.site.url, after_upload=attach_the_first)
    registry.uploads.start()
    try:
        job = registry.upload(model_source=url, lora_model="endpoint-1", lora_base="tester/tiny")
        assert "attached to endpoint-1" in last_message(job)
        assert calls == [(registry.account, "tester/mine", "endpoint-1")]
        job = registry.upload("two", model_source=url, lora_model="endpoint-1", lora_base="tester/tiny")
        assert job.status is JobStatus.COMPLETE
        assert "attaching it to endpoint-1 failed: adapter is already bound to endpoint" in last_message(job)
        assert registry.model("two").state is ModelState.READY
    finally:
        registry.uploads.close()
        registry.database.close()


def test_a_base_model(registry, web, base_files, adapter_files):
    url = web.serve("/base", tarred(base_files))
    job = registry.upload("tiny", model_source=url, kind=ModelKind.MODEL)
    assert job.status is JobStatus.COMPLETE, last_message(job)
    assert registry.bases.resolve("tester/tiny", "tester") == registry.blobs.path(
        registry.model("tiny").revisions[0].digest
    )
    assert registry.bases.find("tester/tiny", "stranger") is None
    assert "model_type model" in last_message(registry.upload("a", model_source=url, kind=ModelKind.ADAPTER))
    lora = web.serve("/lora", zipped(adapter_files))
    assert "model_type adapter" in last_message(registry.upload("b", model_source=lora, kind=ModelKind.MODEL))
    job = registry.upload("c", model_source=lora)
    assert "shapes agree with tester/tiny" in last_message(job)


def test_a_base_model_whose_index_points_elsewhere(registry, base_files, tmp_path):
    folder = Path(shutil.copytree(base_files, registry.import_root / "evil"))
    index = {"weight_map": {"lm_head.weight": "../../../secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    job = registry.upload(model_source="file://evil", kind=ModelKind.MODEL)
    assert "which is not among the files" in last_message(job)


def test_a_commit_that_fails_leaves_no_files(tmp_path, hub, adapter_files):
    imports = tmp_path / "in"
    shutil.copytree(adapter_files, imports / "lora")

    class Sabotage:
        def find(self, _base, _account):
            with registry.database.session() as session:
                session.delete(session.scalar(select(Model)))

        def at_hand(self, _account):
            return []

    registry = open_registry(tmp_path / "other", imports, hub.site.url, bases=Sabotage())
    registry.uploads.start()
    job = registry.upload(model_source="file://lora")
    registry.uploads.close()
    registry.database.close()
    assert job.status is JobStatus.FAILED
    assert "reason of the server's (NoResultFound)" in last_message(job)
    assert registry.stored() == registry.leftovers() == []


def test_closing_fails_what_waits(registry, web, adapter_files):
    registry.uploads.close()
    job, _ = registry.uploads.submit(registry.account, _request(web.serve("/lora", zipped(adapter_files))))
    registry.uploads.recover()
    assert "the server stopped during this upload" in last_message(registry.ended(job.id))
    assert registry.model() is None


def _request(url):
    from loradock.registry.uploads.upload_request import UploadRequest

    return UploadRequest("mine", model_source=url)


def test_what_an_adapter_says_about_texts_is_kept_and_told(registry, web, adapter):
    (adapter / "chat_template.jinja").write_text("{{ messages[0].content }}")
    (adapter / "generation_config.json").write_text('{"eos_token_id": [2, 0]}')
    (adapter / "training_args.json").write_text("{}")
    job = registry.upload(model_source=web.serve("/lora", zipped(adapter)))
    assert job.status is JobStatus.COMPLETE
    assert "its own chat template" in last_message(job)
    kept = {file.name for file in registry.blobs.path(registry.model().revisions[0].digest).iterdir()}
    assert kept == FILES | {PACKED_FILE, "chat_template.jinja", "generation_config.json"}


def test_files_about_texts_that_cannot_be_read_are_named(registry, web, adapter):
    (adapter / "tokenizer_config.json").write_text("{")
    job = registry.upload(model_source=web.serve("/lora", zipped(adapter)))
    assert job.status is JobStatus.FAILED
    assert "tokenizer_config.json is not JSON" in last_message(job)
