"""What an engine does before its first token, and what it does not: see docs/lab/engine.md for how long that takes."""

import subprocess
import sys

import pytest
from gguf.constants import GGML_QUANT_SIZES

from loradock.checkpoints.gguf.tensor_types import TensorType

LATER = "gguf", "llguidance", "prometheus_client", "psutil", "pydantic_core", "torch", "yaml"
"""Packages that are not needed before the first token of a usual request."""
SAY = "import loradock.engine.process.assembly, loradock.engine.process.process, sys; print(*sys.modules)"


def test_packages_that_the_first_token_does_not_need_are_not_imported():
    said = subprocess.run([sys.executable, "-c", SAY], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in said
    assert {name.partition(".")[0] for name in said} & set(LATER) == set()


def test_kinds_of_gguf_tensors_are_those_of_the_gguf_package():
    sizes = {(kind.name, kind.number): (kind.per_block, kind.block_bytes) for kind in TensorType}
    assert sizes.items() <= {(kind.name, int(kind)): size for kind, size in GGML_QUANT_SIZES.items()}.items()


def test_a_kind_that_is_not_known_is_named():
    with pytest.raises(ValueError, match="99"):
        TensorType.numbered(99)
