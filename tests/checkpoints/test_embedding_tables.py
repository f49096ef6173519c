"""Tables beside an adapter, compared with those of a base in one file."""

import pytest
from gguf import GGMLQuantizationType

from loradock.checkpoints.adapters.embedding_tables import compare_tables
from loradock.checkpoints.adapters.inspection import inspect_adapter
from loradock.checkpoints.base_config import read_architecture
from loradock.types.errors import AdapterRefused
from tests.gguf_files import write_gguf
from tests.peft_models import llama, peft_model, save_base

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
KINDS = [
    GGMLQuantizationType.F32,
    GGMLQuantizationType.F16,
    GGMLQuantizationType.BF16,
    GGMLQuantizationType.Q8_0,
    GGMLQuantizationType.Q4_0,
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """An adapter with the tables as they were, and one with two rows of them changed."""
    folder, model = tmp_path_factory.mktemp("adapters"), peft_model()
    model.save_pretrained(folder / "same", save_embedding_layers=True)
    model.get_input_embeddings().weight.data[3:5] += 0.1
    model.save_pretrained(folder / "changed", save_embedding_layers=True)
    return folder


def compared(adapter, base, read_from=None) -> list[str]:
    architecture = read_architecture(read_from or base)
    return compare_tables(adapter, inspect_adapter(adapter, architecture), base, architecture)


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_as_fine_as_the_bases_type_tells_them_apart(kind, saved, tmp_path):
    base = write_gguf(tmp_path / "base.gguf", llama(), tables=kind)
    remarks = compared(saved / "same", base)
    assert len(remarks) == 2
    assert all("is the base model's own table" in remark for remark in remarks)
    with pytest.raises(AdapterRefused, match="of which 2 rows differ"):
        compared(saved / "changed", base)


@pytest.mark.parametrize("form", ["gguf", "folder"])
def test_a_base_without_the_table(form, saved, tmp_path):
    if form == "gguf":
        whole = write_gguf(tmp_path / "whole.gguf", llama())
        base = tmp_path / "base.gguf"
        base.write_bytes(whole.read_bytes().replace(b"token_embd.weight", b"token_lost.weight"))
    else:
        base = whole = save_base(tmp_path / "base")
        (base / "model.safetensors").unlink()
    with pytest.raises(AdapterRefused, match="cannot be read, so the adapter's copy of it cannot be compared"):
        compared(saved / "same", base, read_from=whole)
