"""What an engine does before its first token, and what it does not: see docs/lab/engine.md for how long that takes."""

import asyncio
import subprocess
import sys

import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES

from loradock.checkpoints.gguf.tensor_types import TensorType
from loradock.engine.core import Logits
from loradock.engine.errors import WrongNumbers
from loradock.engine.models.runner import Runner
from loradock.engine.process.assembly import build
from loradock.engine.process.options import read_options

LATER = "gguf", "llguidance", "prometheus_client", "psutil", "pydantic_core", "torch", "yaml"
"""Packages that are not needed before the first token of a usual request."""
SAY = "import loradock.engine.process.assembly, loradock.engine.process.process, sys; print(*sys.modules)"


def test_packages_that_the_first_token_does_not_need_are_not_imported():
    said = subprocess.run([sys.executable, "-c", SAY], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in said
    assert {name.partition(".")[0] for name in said} & set(LATER) == set()


def test_an_engine_of_wrong_kernels_is_not_built(base_folder, monkeypatch):
    def broken(self, rows):
        found = honest(self, rows)
        return Logits([np.zeros_like(part) for part in found.parts], [0] * len(found.best), found.finite)

    honest = Runner.step
    monkeypatch.setattr(Runner, "step", broken)
    with pytest.raises(WrongNumbers):
        build(read_options(["--model", str(base_folder)]), asyncio.new_event_loop(), print)


def test_kinds_of_gguf_tensors_are_those_of_the_gguf_package():
    sizes = {(kind.name, kind.number): (kind.per_block, kind.block_bytes) for kind in TensorType}
    assert sizes.items() <= {(kind.name, int(kind)): size for kind, size in GGML_QUANT_SIZES.items()}.items()


def test_a_kind_that_is_not_known_is_named():
    with pytest.raises(ValueError, match="99"):
        TensorType.numbered(99)
