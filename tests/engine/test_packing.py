"""Adapters as the kernels read them, held against torch's own reading of the same files."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from loradock.checkpoints.adapters.packed import GROUPS, PACKED_FILE, PAGE, write_packed
from loradock.checkpoints.architecture import Architecture
from loradock.engine.adapters import lora, packing
from loradock.engine.adapters.lora import AdapterReader
from loradock.engine.adapters.packing import PLACE
from loradock.engine.dtypes import Dtype
from loradock.engine.torch_models.lora import TorchAdapterReader
from loradock.types.errors import AdapterRefused, DamagedWeights

# More columns than the kernel turns at a time, and no multiple of that.
BASE = Architecture("llama", 100, 72, 300, 2, 6, 2, 12, 10_000.0, 1e-5, 128)
MODULES = ("q_proj", "v_proj", "o_proj", "up_proj", "down_proj")


def save(folder, dtypes, seed=0, rank=5, alpha=13, change=None):
    folder.mkdir()
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": list(MODULES), "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    dice = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(BASE.layers):
        for number, module in enumerate(MODULES):
            out, into = BASE.linears()[module]
            stem = f"base_model.model.{BASE.module_path(layer, module)}.lora_"
            for side, shape in (("A", (rank, into)), ("B", (out, rank))):
                values = torch.randn(shape, generator=dice) * 10.0 ** (-2 * number)
                tensors[f"{stem}{side}.weight"] = values.to(dtypes[(number + (side == "B")) % len(dtypes)])
    if change:
        change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def rows(adapter, layer, module):
    """A and B^T of a projection, from where the lines say that they lie, and the columns that they add to."""
    for number, modules in enumerate(GROUPS.values()):
        if module in modules:
            at, rank, low, high = adapter.lines[layer, number, PLACE * modules.index(module) :][:PLACE].tolist()
            into = BASE.linears()[module][1]
            start = (at - adapter.packed.ctypes.data) // adapter.packed.itemsize
            numbers = torch.from_numpy(adapter.packed[start : start + rank * (into + high - low)].copy())
            numbers = numbers.view(torch.bfloat16) if numbers.dtype is torch.uint16 else numbers
            both = numbers.view(rank, into + high - low)
            return both[:, :into], both[:, into:], (low, high)
    raise AssertionError(module)


def check(adapter, folder, scale):
    tensors = load_file(folder / "adapter_model.safetensors")
    for layer in range(BASE.layers):
        for module in MODULES:
            stem = f"base_model.model.{BASE.module_path(layer, module)}.lora_"
            a, b, _ = rows(adapter, layer, module)
            dtype = a.dtype
            assert torch.equal(a, tensors[f"{stem}A.weight"].float().to(dtype))
            assert torch.equal(b, (tensors[f"{stem}B.weight"].float().T * scale).to(dtype))


STORED = pytest.mark.parametrize(
    "stored",
    [[torch.float16], [torch.bfloat16], [torch.float32], [torch.float16, torch.float32, torch.bfloat16]],
    ids=["f16", "bf16", "f32", "mixed"],
)


@pytest.mark.parametrize("dtype", list(Dtype))
@STORED
def test_every_number_is_torchs(tmp_path, dtype, stored):
    folder = save(tmp_path / "a", stored)
    check(AdapterReader(BASE, dtype).read("a", folder), folder, 13 / 5)


def test_the_smallest_halves_keep_their_value(tmp_path):
    def shrink(tensors):
        for tensor in tensors.values():
            tensor.view(torch.int16).copy_(torch.arange(tensor.numel()).reshape(tensor.shape) % 1100)
            tensor[1:] *= -1

    folder = save(tmp_path / "a", [torch.float16], change=shrink)
    check(AdapterReader(BASE, Dtype.FLOAT32).read("a", folder), folder, 13 / 5)


def test_columns_are_those_of_the_groups_output(tmp_path):
    adapter = AdapterReader(BASE, Dtype.BFLOAT16).read("a", save(tmp_path / "a", [torch.float16]))
    assert [rows(adapter, 1, module)[2] for module in ("q_proj", "v_proj", "up_proj")] == [
        (0, 72),
        (72 + 24, 72 + 48),
        (300, 600),
    ]
    assert rows(adapter, 0, "k_proj")[0].numel() == 0


def test_files_laid_out_alike_have_numbers_of_their_own(tmp_path):
    reader = AdapterReader(BASE, Dtype.BFLOAT16)
    folders = [save(tmp_path / str(seed), [torch.float16], seed=seed) for seed in range(3)]
    louder = save(tmp_path / "louder", [torch.float16], seed=1, alpha=20)
    adapters = [reader.read(folder.name, folder) for folder in folders]
    for adapter, folder in zip(adapters, folders, strict=True):
        check(adapter, folder, 13 / 5)
    check(reader.read("louder", louder), louder, 4.0)


def test_a_very_long_header_is_read_too(tmp_path, monkeypatch):
    monkeypatch.setattr(lora, "_LONG", 10)
    folder = save(tmp_path / "a", [torch.float16])
    check(AdapterReader(BASE, Dtype.BFLOAT16).read("a", folder), folder, 13 / 5)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("side", ["A", "B"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_what_is_not_finite_is_named(tmp_path, stored, side, value):
    name = f"base_model.model.model.layers.1.self_attn.o_proj.lora_{side}.weight"

    def spoil(tensors):
        tensors[name][-1, -1] = value

    folder = save(tmp_path / "a", [stored], change=spoil)
    with pytest.raises(AdapterRefused, match=rf"{name} holds values that are not finite"):
        AdapterReader(BASE, Dtype.BFLOAT16).read("a", folder)


def test_a_file_that_changes_between_two_looks_is_refused(tmp_path):
    reader = AdapterReader(BASE, Dtype.BFLOAT16)
    folder = save(tmp_path / "a", [torch.float16])
    layout = reader._lay_out(reader._files(folder))
    with (folder / "adapter_model.safetensors").open("ab") as file:
        file.truncate(1000)
    with pytest.raises(DamagedWeights, match="changed while it was read"):
        layout.pack(folder, Dtype.BFLOAT16)


def test_ranks_above_the_limit_are_refused_with_the_numbers(tmp_path):
    folder = save(tmp_path / "a", [torch.float16])
    for kind in (AdapterReader, TorchAdapterReader):
        with pytest.raises(AdapterRefused, match="rank 5; this engine takes up to 4"):
            kind(BASE, Dtype.BFLOAT16, max_rank=4).read("a", folder)


def packs(monkeypatch):
    """How often an adapter is packed from here on, instead of being mapped."""
    count, pack = [], packing.Layout.pack
    monkeypatch.setattr(packing.Layout, "pack", lambda *arguments: count.append(1) or pack(*arguments))
    return count


@STORED
def test_what_was_packed_before_has_the_same_numbers(tmp_path, monkeypatch, stored):
    folder, packed = save(tmp_path / "a", stored), packs(monkeypatch)
    made = AdapterReader(BASE, Dtype.BFLOAT16).read("a", folder)
    write_packed(folder)
    mapped = AdapterReader(BASE, Dtype.BFLOAT16).read("a", folder)
    assert len(packed) == 1
    check(mapped, folder, 13 / 5)
    assert np.array_equal(mapped.packed, made.packed)
    assert mapped.bytes == made.bytes


def test_in_float32_the_adapter_itself_is_read(tmp_path, monkeypatch):
    folder, packed = save(tmp_path / "a", [torch.float32]), packs(monkeypatch)
    write_packed(folder)
    check(AdapterReader(BASE, Dtype.FLOAT32).read("a", folder), folder, 13 / 5)
    assert packed


def test_an_adapter_that_is_mapped_keeps_no_file_open(tmp_path):
    folder = save(tmp_path / "a", [torch.float16])
    write_packed(folder)
    reader = AdapterReader(BASE, Dtype.BFLOAT16)
    before = len(list(Path("/proc/self/fd").iterdir()))
    kept = [reader.read("a", folder) for _ in range(20)]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert len({adapter.packed.ctypes.data for adapter in kept}) == 20


def cut(folder):
    with (folder / PACKED_FILE).open("ab") as file:
        file.truncate(PAGE + 100)


def cut_within_a_number(folder):
    with (folder / PACKED_FILE).open("ab") as file:
        file.truncate(PAGE + 101)


def longer(folder):
    with (folder / PACKED_FILE).open("ab") as file:
        file.write(b"0" * 100)


def a_pipe(folder):
    (folder / PACKED_FILE).unlink()
    os.mkfifo(folder / PACKED_FILE)


def cut_within_the_page(folder):
    with (folder / PACKED_FILE).open("ab") as file:
        file.truncate(100)


def spoil(folder):
    with (folder / PACKED_FILE).open("r+b") as file:
        file.seek(PAGE + 1000)
        file.write(b"\x80\x7f")


def unreadable(folder):
    (folder / PACKED_FILE).unlink()
    (folder / PACKED_FILE).mkdir()


def train_again(folder):
    """Another adapter of the same shape in the same place."""
    other = save(folder.parent / "b", [torch.float16], seed=7)
    (other / "adapter_model.safetensors").rename(folder / "adapter_model.safetensors")


def scale_again(folder):
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 20}))


@pytest.mark.parametrize(
    "change",
    [cut, cut_within_a_number, longer, a_pipe, cut_within_the_page, spoil, unreadable, train_again, scale_again],
    ids=lambda change: change.__name__,
)
def test_what_was_packed_of_something_else_is_not_used(tmp_path, monkeypatch, change):
    folder, packed = save(tmp_path / "a", [torch.float16]), packs(monkeypatch)
    write_packed(folder)
    change(folder)
    check(AdapterReader(BASE, Dtype.BFLOAT16).read("a", folder), folder, 4.0 if change is scale_again else 13 / 5)
    assert packed


def test_an_adapter_that_is_mapped_is_not_changed_by_who_writes_to_it(tmp_path):
    folder = save(tmp_path / "a", [torch.float16])
    write_packed(folder)
    reader = AdapterReader(BASE, Dtype.BFLOAT16)
    reader.read("a", folder).packed[:] = 0
    check(reader.read("a", folder), folder, 13 / 5)
