"""What the check at the start of an engine finds, and what it lets pass."""

import logging
import re

import numpy as np
import pytest

from loradock.engine.core import Logits
from loradock.engine.dtypes import Dtype
from loradock.engine.errors import WrongNumbers
from loradock.engine.models.loading import load_model
from loradock.engine.models.native_decoder import NativeDecoder
from loradock.engine.models.runner import Runner
from loradock.engine.self_check import proof
from tests.engine import shapes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shapes.save(tmp_path_factory.mktemp("proof") / "base", shapes.shape(5))


@pytest.fixture(scope="module", params=[(Dtype.BFLOAT16, None), (Dtype.BFLOAT16, 8), (Dtype.FLOAT32, None)], ids=str)
def model(folder, request):
    dtype, bits = request.param
    return load_model(folder, dtype, bits=bits)


@pytest.mark.parametrize("int8_cache", [False, True])
def test_right_kernels_are_proved_and_the_log_says_so(model, int8_cache, caplog):
    with caplog.at_level(logging.INFO):
        proof.prove(model, 2, int8_cache=int8_cache)
    assert re.search(r"compiled kernels \(\w+\) proved in", caplog.text)


@pytest.mark.parametrize(
    "fault", ["a row", "a vector of each row", "not finite", "not a number, unnoticed", "the chosen token"]
)
def test_a_wrong_number_is_found(fault, folder, monkeypatch):
    honest = Runner.step

    def step(self, rows):
        found = honest(self, rows)
        values = found.values.copy() if found.parts else None
        if fault == "a row" and values is not None:
            values[-1] = np.roll(values[-1], 1)
        if fault == "a vector of each row" and values is not None:
            values[:, :16] = 0
        if fault == "not a number, unnoticed" and values is not None:
            values[-1] = np.nan
        if fault == "not finite":
            return Logits(found.parts, found.best, [False] * len(found.best))
        if fault == "the chosen token" and values is None:
            return Logits(found.parts, [(token + 1) % 100 for token in found.best], found.finite)
        return found if values is None else Logits([values], found.best, found.finite)

    monkeypatch.setattr(Runner, "step", step)
    with pytest.raises(WrongNumbers, match="compute wrong numbers on this machine"):
        proof.prove(load_model(folder, Dtype.BFLOAT16), 2)


def test_wrong_sampling_is_found(folder, monkeypatch):
    monkeypatch.setattr(proof, "draw", lambda logits, *_: np.zeros(len(logits), np.int64))
    with pytest.raises(WrongNumbers):
        proof.prove(load_model(folder, Dtype.BFLOAT16), 2)


def test_a_row_that_is_not_finite_and_taken_for_usable_is_found(folder, monkeypatch):
    honest = proof.largest
    monkeypatch.setattr(proof, "largest", lambda logits: (honest(logits)[0], np.ones(len(logits), np.bool_)))
    with pytest.raises(WrongNumbers):
        proof.prove(load_model(folder, Dtype.BFLOAT16), 2)


def test_decoders_without_kernels_need_no_proof(folder, monkeypatch):
    monkeypatch.setattr(Runner, "step", lambda *_: pytest.fail("computed"))
    proof.prove(load_model(folder, Dtype.FLOAT32, kernels=False), 2)


def test_the_small_model_runs_in_the_decoder_that_will_serve(folder):
    model = load_model(folder, Dtype.BFLOAT16)
    small = proof.small_architecture(model.architecture)
    weights = proof.random_weights(small)
    assert type(proof._same_decoder(model, small, weights)) is NativeDecoder is type(model)
    assert (small.head_dim, small.heads // small.kv_heads) == (
        model.architecture.head_dim,
        model.architecture.heads // model.architecture.kv_heads,
    )
