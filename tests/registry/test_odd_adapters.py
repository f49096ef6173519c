"""Adapters as people's tools leave them, uploaded: taken, remarked on, or refused with the true reason."""

import pytest
from tokenizers import Tokenizer, models

from loradock.checkpoints.adapters.inspection import inspect_adapter
from loradock.checkpoints.adapters.packed import is_packed
from loradock.checkpoints.adapters.plain import is_plain
from loradock.types.enums import JobStatus
from tests.adapter_folders import Folders
from tests.peft_models import save_base
from tests.registry.rig import last_message

BASE = "Org/Tiny"
TAKEN = {
    "plain": "shapes agree with Org/Tiny",
    "tables-same": "embed_tokens.weight is the base model's own table and was left out",
    "tables-longer": "lm_head.weight is the base model's own table (8 rows more than the base has tokens)",
    "base-bnb": "unsloth/Tiny-bnb-4bit is a copy of Org/Tiny, which is here",
    "base-mirror": "unsloth/Tiny is a copy of Org/Tiny",
    "base-relative": "against models/model, which is not here; by its shapes it fits Org/Tiny",
    "base-sibling": "against Org/Tiny-Base, which is not here; by its shapes it fits Org/Tiny",
    "prefix-compiled-after": "_orig_mod",
    "prefix-compiled-before": "_orig_mod",
    "prefix-no-model": "tensor names begin with 'base_model.model.'; read as 'base_model.model.model.'",
    "prefix-language-model": "language_model.'; read as",
    "prefix-none": "tensor names begin with 'model.'",
    "prefix-adapter-name": "shapes agree",
    "prefix-half": "_orig_mod",
    "last-layers": "only the layers 2 to 3 are adapted",
    "run": "shapes agree",
    "rank-128": "LoRA of rank 128",
    "pattern-below": "LoRA of rank 2 ",
    "anchored": "LoRA of rank 2 ",
    "pattern-nothing": "alpha_pattern: ^q_proj, model.layers.0 match no module",
    "pattern-first-wins": "shapes agree with Org/Tiny",
}
REFUSED = {
    "tables-changed": "of which 10 rows differ",
    "base-path": "not a valid model name: give base_model (by its shapes it fits Org/Tiny)",
    "base-null": "say which with base_model (by its shapes it fits Org/Tiny)",
    "mlx": "MLX-LM's own format",
    "mlx-half": "has no peft_type",
    "mlx-half-no-base": "has no peft_type",
    "two": "several adapters here: checkpoint-500, checkpoint-1000",
}


@pytest.fixture
def folders(registry) -> Folders:
    base = save_base(registry.import_root / "Org" / "Tiny", num_hidden_layers=4)
    Tokenizer(models.BPE({"a": 0}, [])).save(str(base / "tokenizer.json"))
    made = Folders(registry.import_root, base, BASE)
    made.all()
    return made


def test_every_folder_is_taken_or_refused_for_what_it_is(registry, folders):
    assert {path.name for path in folders.root.iterdir()} == {*TAKEN, *REFUSED, "Org"}
    for name, said in TAKEN.items():
        job = registry.upload(name, model_source=f"file://{name}")
        assert job.status is JobStatus.COMPLETE, (name, last_message(job))
        assert said in last_message(job), name
        folder = registry.blobs.path(registry.model(name).revisions[-1].digest)
        assert is_plain(inspect_adapter(folder, folders.shape)), name
        assert is_packed(folder), name
    for name, said in REFUSED.items():
        job = registry.upload(name, model_source=f"file://{name}")
        assert job.status is JobStatus.FAILED, name
        assert said in last_message(job), (name, last_message(job))
        assert str(folders.root) not in last_message(job)
    assert registry.leftovers() == []
    assert (
        "; " not in last_message(registry.upload("again", model_source="file://pattern-first-wins")).partition("; ")[2]
    )
