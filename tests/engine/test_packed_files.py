"""Base models that are packed once and mapped at every later start."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from loradock.checkpoints import packed_cache
from loradock.engine.core import Row, SamplingParams, Sequence
from loradock.engine.dtypes import Dtype
from loradock.engine.kernels.structures import Format
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.models import packed_files, packing
from loradock.engine.models.loading import load_model
from loradock.engine.models.runner import Runner

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}


def save(folder, seed=0, change=None):
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**SIZES, num_hidden_layers=2, vocab_size=96))
    if change:
        with torch.no_grad():
            for parameter in model.parameters():
                change(parameter)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def base(tmp_path, monkeypatch):
    """A base model, and a cache of its own for models however small."""
    monkeypatch.setenv("LORADOCK_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(packed_files, "_WORTH_IT", 0)
    return save(tmp_path / "base")


@pytest.fixture
def packs(monkeypatch):
    """The models that are packed from here on."""
    found, fill = [], packing.fill
    monkeypatch.setattr(packing, "fill", lambda *arguments: found.append(arguments[0].format) or fill(*arguments))
    return found


def logits(model):
    cache = KVCache(model.architecture, 8, model.dtype)
    sequence = Sequence(1, list(range(20)), SamplingParams(prompt_logprobs=0))
    assert cache.allocate(sequence, 20)
    return Runner(model, cache, 2).step([Row(sequence, 20, 20)]).values


@pytest.mark.parametrize(("dtype", "bits"), [(Dtype.BFLOAT16, None), (Dtype.BFLOAT16, 8), (Dtype.FLOAT32, None)])
def test_what_was_packed_is_mapped_and_computes_alike(base, packs, monkeypatch, dtype, bits):
    made = load_model(base, dtype, bits=bits)
    mapped = load_model(base, dtype, bits=bits)
    assert len(packs) == 1
    monkeypatch.setattr(packed_files, "_WORTH_IT", 2**40)
    in_memory = load_model(base, dtype, bits=bits)
    assert len(packs) == 2
    assert np.array_equal(logits(made), logits(in_memory)) and np.array_equal(logits(mapped), logits(in_memory))


def test_each_form_and_each_checkpoint_has_a_file_of_its_own(base, packs, tmp_path):
    for dtype, bits in ((Dtype.BFLOAT16, None), (Dtype.BFLOAT16, 8), (Dtype.BFLOAT16, 4), (Dtype.FLOAT32, None)):
        load_model(base, dtype, bits=bits)
    other = load_model(save(tmp_path / "base", seed=1), Dtype.BFLOAT16)
    assert (len(packs), len(packed_cache.cached_models())) == (5, 5)
    assert not np.array_equal(logits(other), logits(load_model(save(tmp_path / "base2"), Dtype.BFLOAT16)))


def test_weights_that_do_not_fit_twelve_bits_are_found_again(base, packs, tmp_path):
    wide = save(tmp_path / "wide", change=lambda p: p.mul_(torch.exp2(torch.randint(-60, 1, p.shape).float())))
    for _ in range(2):
        assert load_model(wide, Dtype.BFLOAT16).format is Format.BFLOAT16
    assert packs == [Format.CODED, Format.BFLOAT16]


def cut(file):
    os.truncate(file, file.stat().st_size - 1)


def of_another_version(file):
    with file.open("r+b") as content:
        content.write(b'{"version": 0')


@pytest.mark.parametrize("damage", [cut, of_another_version])
def test_a_damaged_file_is_made_again(base, packs, damage):
    expected = logits(load_model(base, Dtype.BFLOAT16))
    damage(packed_cache.cached_models()[0].path)
    assert np.array_equal(logits(load_model(base, Dtype.BFLOAT16)), expected)
    assert len(packs) == 2


def test_of_engines_that_start_at_once_one_packs(base, packs):
    with ThreadPoolExecutor(3) as pool:
        models = list(pool.map(lambda _: load_model(base, Dtype.BFLOAT16), range(3)))
    assert len(packs) == 1
    assert all(np.array_equal(logits(model), logits(models[0])) for model in models)


def test_without_a_place_for_files_it_is_packed_in_memory(base, packs, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LORADOCK_CACHE_DIR", str(tmp_path / "file"))
    assert np.isfinite(logits(load_model(base, Dtype.BFLOAT16))).all()
    monkeypatch.setenv("LORADOCK_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("LORADOCK_CACHE_GIB", "0.0000001")
    assert np.isfinite(logits(load_model(base, Dtype.BFLOAT16))).all()
    assert (len(packs), packed_cache.cached_models()) == (2, [])
    assert "no room" in caplog.text


def test_packing_that_fails_leaves_nothing_behind(base, tmp_path, monkeypatch):
    def fill(*_):
        raise RuntimeError("pulled the plug")

    monkeypatch.setattr(packing, "fill", fill)
    with pytest.raises(RuntimeError, match="plug"):
        load_model(base, Dtype.BFLOAT16)
    assert [file.suffix for file in (tmp_path / "cache/packed").iterdir()] == [".lock"]


def test_what_was_not_used_for_longest_goes_first(base, monkeypatch):
    for bits in (None, 8, 4):
        load_model(base, Dtype.BFLOAT16, bits=bits)
    coded, int8, _ = (
        next(m for m in packed_cache.cached_models() if f"-{name}-" in m.name) for name in ("coded", "int8", "int4")
    )
    for at, model in enumerate((int8, coded)):
        os.utime(model.path, (1000 + at, 1000 + at))
    left = sum(model.size for model in packed_cache.cached_models()) - int8.size
    monkeypatch.setenv("LORADOCK_CACHE_GIB", str((left + 10) / 2**30))
    assert packed_cache.make_room(0)
    assert int8.path not in [model.path for model in packed_cache.cached_models()]
    assert coded.path in [model.path for model in packed_cache.cached_models()]
    kept = load_model(base, Dtype.BFLOAT16)  # mapped: it goes on when its file has gone
    expected = logits(kept)
    assert packed_cache.clear() and not packed_cache.cached_models()
    assert np.array_equal(logits(kept), expected)


def test_the_command_shows_and_clears_it(base):
    def cache(*arguments):
        command = [sys.executable, "-m", "loradock.cli.main", "cache", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "Nothing is kept" in cache("list")
    load_model(base, Dtype.BFLOAT16)
    assert "base-coded-" in cache("list") and '"bytes":' in cache("list", "--json")
    assert "deleted 1 packed model" in cache("clear")
    assert "Nothing is kept" in cache("list")
