"""Which base model an adapter is for, and what happens when the two meet."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file
from sqlalchemy import select
from tokenizers import Tokenizer, models

from loradock.checkpoints.adapters.inspection import inspect_adapter
from loradock.checkpoints.adapters.packed import PACKED_FILE
from loradock.checkpoints.adapters.plain import is_plain
from loradock.registry.settling import Settler
from loradock.store.tables import Attachment, Deployment, Endpoint, Event
from loradock.types.enums import AttachmentState, DesiredState, JobStatus
from loradock.types.errors import AdapterRefused, BadRequest, ModelMissing
from loradock.types.names import new_id, same_base_model
from tests.peft_models import peft_model, save_base
from tests.registry.rig import last_message


def put_base(registry, name: str, **changed) -> Path:
    folder = save_base(registry.import_root / name, **changed)
    Tokenizer(models.BPE({"a": 0}, [])).save(str(folder / "tokenizer.json"))
    return folder


def put_adapter(registry, base: str | None, name: str = "lora", **options) -> str:
    model = peft_model(base=base)
    folder = registry.import_root / name
    model.save_pretrained(folder, **{"save_embedding_layers": False, **options})
    return f"file://{name}"


@pytest.fixture
def settler(registry) -> Settler:
    return Settler(registry.database, registry.blobs, registry.bases)


def folder_of(registry, name: str = "mine") -> Path:
    return registry.blobs.path(registry.model(name).revisions[-1].digest)


@pytest.mark.parametrize(
    ("named", "same"),
    [
        ("unsloth/Tiny-bnb-4bit", True),
        ("unsloth/Tiny-unsloth-bnb-4bit", True),
        ("unsloth/Tiny", True),
        ("TheBloke/tiny-GPTQ", True),
        ("mlx-community/Tiny-4bit-DWQ", True),
        ("Org/Tiny-AWQ", True),
        ("Org/Tiny-GPTQ-Int4", True),
        ("RedHatAI/Tiny-FP8-dynamic", True),
        ("RedHatAI/Tiny-quantized.w4a16", True),
        ("bartowski/Tiny-GGUF", True),
        ("org/meta-tiny-lora", True),
        ("Org/Tiny-dynamic", False),
        ("Other/Tiny", False),
        ("Org/Tiny2", False),
        ("models/tiny", False),
        ("Tiny", False),
        ("unsloth/Tiny-Instruct-bnb-4bit", False),
    ],
)
def test_known_copies_of_a_base_model(named, same):
    assert same_base_model(named, "Org/Tiny") is same
    assert same_base_model("Org/Tiny", named) is same


def test_a_copy_s_name_becomes_that_of_the_base_that_is_here(registry):
    put_base(registry, "Org/Tiny")
    job = registry.upload(model_source=put_adapter(registry, "unsloth/Tiny-bnb-4bit"))
    assert "shapes agree with Org/Tiny; unsloth/Tiny-bnb-4bit is a copy of Org/Tiny" in last_message(job)
    assert registry.model().base_model == "Org/Tiny"


def test_a_folder_of_the_hub_s_cache_names_its_model(registry):
    put_base(registry, "Org/Tiny")
    cached = "/root/.cache/huggingface/hub/models--Org--Tiny/snapshots/0123abc"
    job = registry.upload(model_source=put_adapter(registry, cached))
    assert "shapes agree with Org/Tiny" in last_message(job)


def test_what_fits_by_its_shapes_is_told_and_corrects_the_base(registry, settler):
    for name in ("Org/A", "Org/Tiny", "Org/Z"):
        put_base(registry, name)
    put_base(registry, "Org/Wide", hidden_size=64)
    job = registry.upload(model_source=put_adapter(registry, "models/tiny"))
    assert "against models/tiny, which is not here; by its shapes it fits Org/Tiny, Org/A, Org/Z:" in last_message(job)
    assert "loradock models update tester/mine --base-model Org/Tiny" in last_message(job)
    assert settler.change_base(registry.account, "mine", "Org/Tiny") == "shapes agree with Org/Tiny"
    assert registry.model().base_model == "Org/Tiny"
    with registry.database.session() as session:
        (event,) = session.scalars(select(Event).where(Event.kind == "model.base_changed"))
    assert event.message.startswith("tester/mine is for Org/Tiny now, before for models/tiny")
    with pytest.raises(AdapterRefused, match="belongs to another base"):
        settler.change_base(registry.account, "mine", "Org/Wide")
    assert registry.model().base_model == "Org/Tiny"
    assert "is not here" in settler.change_base(registry.account, "tester/mine", "Org/Elsewhere-lora")
    assert registry.model().base_model == "Org/Elsewhere"


@pytest.mark.parametrize("named", [None, "/data/train/tiny"])
def test_an_adapter_that_names_no_model_is_told_what_fits(registry, named):
    put_base(registry, "Org/Tiny")
    refused = registry.upload(model_source=put_adapter(registry, named))
    assert refused.status is JobStatus.FAILED
    assert "base_model (by its shapes it fits Org/Tiny)" in last_message(refused)
    nothing = registry.upload(model_source=put_adapter(registry, "a/b", "two"), base_model="Other/Thing")
    assert "fits Org/Tiny" in last_message(nothing)


def test_a_base_s_name_of_any_length_is_told_shortly(registry):
    put_base(registry, "Org/Tiny")
    refused = last_message(registry.upload(model_source=put_adapter(registry, "models--" * 100_000)))
    assert "is not a valid model name" in refused
    assert len(refused) < 1000


def test_only_an_own_adapter_at_rest_is_for_another_base(registry, settler):
    put_base(registry, "Org/Tiny")
    registry.upload(model_source=put_adapter(registry, "models/tiny"))
    with pytest.raises(BadRequest, match="is not a valid model name"):
        settler.change_base(registry.account, "mine", "a:b")
    with pytest.raises(ModelMissing):
        settler.change_base(registry.account, "yours", "Org/Tiny")
    with registry.database.session() as session:
        model = registry.model()
        dock = Endpoint(id=new_id("e"), account_id=registry.account, name="tester/dock", display_name="dock")
        deployment = Deployment(
            id=new_id("dep"), endpoint=dock, base_model="x", hardware="cpu", min_replicas=1, max_replicas=1
        )
        deployment.desired = DesiredState.STOPPED
        row = Attachment(id=new_id("a"), model_id=model.id, revision_id=model.revisions[-1].id, engine_name="n")
        row.deployment, row.state = deployment, AttachmentState.DETACHING
        session.add(row)
    with pytest.raises(BadRequest, match=r"is attached to tester/dock, or is being removed"):
        settler.change_base(registry.account, "mine", "Org/Tiny")


def test_tables_beside_the_adapter_wait_for_the_base(registry, settler):
    job = registry.upload(model_source=put_adapter(registry, "Org/Tiny", save_embedding_layers=True))
    assert "compared with the base model's when the adapter is attached" in last_message(job)
    before = folder_of(registry)
    assert not (before / PACKED_FILE).exists()
    where = (registry.account, registry.model().id, before, "Org/Tiny")
    assert settler.for_attach(*where, look=False) == before  # the base is not here yet either
    base = put_base(registry, "Org/Tiny")
    after = settler.for_attach(*where, look=False)
    assert after == folder_of(registry) != before
    assert not before.exists()
    assert is_plain(inspect_adapter(after, registry.bases.architecture("Org/Tiny", registry.account)))
    assert (after / PACKED_FILE).is_file()
    assert settler.for_attach(registry.account, registry.model().id, after, "Org/Tiny", look=True) == after
    assert registry.leftovers() == []
    assert registry.model().revisions[-1].size_bytes < (base / "model.safetensors").stat().st_size
    with registry.database.session() as session:
        (event,) = session.scalars(select(Event).where(Event.kind == "model.settled"))
    assert "is the base model's own table" in event.message


def test_changed_tables_are_refused_once_the_base_is_there(registry, settler):
    model = peft_model(base="Org/Tiny")
    model.get_input_embeddings().weight.data += 1
    model.save_pretrained(registry.import_root / "lora", save_embedding_layers=True)
    registry.upload(model_source="file://lora")
    put_base(registry, "Org/Tiny")
    where = (registry.account, registry.model().id, folder_of(registry), "Org/Tiny")
    with pytest.raises(AdapterRefused, match="save_embedding_layers=False"):
        settler.for_attach(*where, look=False)
    with pytest.raises(AdapterRefused, match="save_embedding_layers=False"):
        settler.change_base(registry.account, "mine", "Org/Tiny")
    with pytest.raises(AdapterRefused, match="save_embedding_layers=False"):
        inspect(registry, "again")
    assert registry.leftovers() == []


def inspect(registry, name: str) -> None:
    job = registry.upload(name, model_source="file://lora")
    assert job.status is JobStatus.FAILED
    raise AdapterRefused(last_message(job))


def test_what_vllm_would_read_otherwise_is_kept_as_it_reads_it(registry):
    put_base(registry, "Org/Tiny")
    source = put_adapter(registry, "Org/Tiny")
    file = registry.import_root / "lora" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "alpha_pattern": {"q_proj": 1}, "r": 128,
                                "rank_pattern": {".*_proj": 4}}))  # fmt: skip
    job = registry.upload(model_source=source)
    assert job.status is JobStatus.COMPLETE, last_message(job)
    config = json.loads((folder_of(registry) / "adapter_config.json").read_text())
    assert (config["r"], config["alpha_pattern"], config["rank_pattern"]) == (4, {}, {})
    kept = load_file(folder_of(registry) / "adapter_model.safetensors")
    given = load_file(registry.import_root / "lora" / "adapter_model.safetensors")
    assert set(kept) == set(given)
    assert registry.model().revisions[-1].rank == 4


def test_what_is_plain_is_kept_byte_for_byte(registry):
    put_base(registry, "Org/Tiny")
    source = put_adapter(registry, "Org/Tiny")
    registry.upload(model_source=source)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (folder_of(registry) / name).read_bytes() == (registry.import_root / "lora" / name).read_bytes()


def test_shapes_are_held_against_the_base_at_an_attach_to_an_engine_that_does_not(registry, settler):
    registry.upload(model_source=put_adapter(registry, "Org/Tiny"))
    put_base(registry, "Org/Tiny", hidden_size=64)
    where = (registry.account, registry.model().id, folder_of(registry), "Org/Tiny")
    with pytest.raises(AdapterRefused, match="belongs to another base"):
        settler.for_attach(*where, look=True)
    shutil.rmtree(registry.import_root / "Org")
    assert settler.for_attach(*where, look=True) == where[2]
