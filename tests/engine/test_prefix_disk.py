"""Keys and values of prompts that had to leave memory, on disk: found again, the same, and never another's."""

import os
import time

import numpy as np
import pytest

from loradock.engine.core import SamplingParams, Sequence
from loradock.engine.dtypes import Dtype
from loradock.engine.kernels.constants import BLOCK_SIZE
from loradock.engine.kv_cache.disk import DiskBlocks
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.models.loading import adapter_reader, load_model
from loradock.engine.models.runner import Runner
from loradock.engine.scheduling.scheduler import Scheduler
from tests.engine import shapes
from tests.engine.tiny import save_adapter

SIZE = 8192


def block(number):
    return np.full((2, 1, SIZE // 2), number, np.uint8)


def chain(number, load_id=0):
    return load_id, b"%d" % number


@pytest.fixture
def disk(tmp_path):
    return DiskBlocks(tmp_path / "prefixes", SIZE, 4 * SIZE)


def written(disk):
    deadline = time.monotonic() + 20
    while disk._pending:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def held(disk, numbers):
    """Those of the chains that are there, each with the block that was put for it."""
    found = []
    for number in numbers:
        into = block(255)
        if disk.read(chain(number), into):
            assert (into == number).all()
            found.append(number)
    return found


@pytest.mark.parametrize("wait", [False, True])
def test_the_least_recently_used_block_gives_way(disk, wait):
    for number in range(4):
        disk.put(chain(number), block(number))
    if wait:
        written(disk)
    assert held(disk, [0]) == [0]
    disk.put(chain(1), block(1))  # known: used again
    for number in (10, 11):
        disk.put(chain(number), block(number))
    if wait:
        written(disk)
    assert held(disk, [0, 1, 2, 3, 10, 11]) == [0, 1, 10, 11]


def test_an_unloaded_adapters_blocks_are_gone(disk):
    disk.put(chain(1, 7), block(1))
    disk.put(chain(2), block(2))
    disk.forget_adapter(7)
    assert not disk.read(chain(1, 7), block(0))
    assert held(disk, [2]) == [2]
    for number in range(3, 6):
        disk.put(chain(number), block(number))
    assert held(disk, [2, 3, 4, 5]) == [2, 3, 4, 5]


def test_the_file_has_no_name(disk, tmp_path):
    disk.put(chain(1), block(1))
    written(disk)
    assert list((tmp_path / "prefixes").iterdir()) == []


def test_what_cannot_be_read_or_written_is_computed_again(disk, caplog):
    disk.put(chain(1), block(1))
    written(disk)
    os.ftruncate(disk._file.fileno(), SIZE // 2)
    assert not disk.read(chain(1), block(0))
    assert len(disk) == 0
    os.close(os.dup2(os.open(os.devnull, os.O_RDONLY), disk._file.fileno()) and os.open(os.devnull, os.O_RDONLY))
    disk.put(chain(2), block(2))
    written(disk)
    assert len(disk) == 0
    assert "cannot be written" in caplog.text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shapes.save(tmp_path_factory.mktemp("disk") / "base", shapes.shape(5))


class Serving:
    """Prompts, one after the other, through a cache that holds just one of them."""

    def __init__(self, model, room):
        self.cache = KVCache(model.architecture, 10, model.dtype)
        self.scheduler = Scheduler(self.cache, 4, 64)
        self.runner = Runner(model, self.cache, 2)
        if room:
            self.cache.disk = DiskBlocks(room, self.cache.layout.block_bytes, 1 << 24)
        self.steps = 0

    def tokens(self, prompt, adapter=None, count=5):
        sequence = Sequence(self.steps, list(prompt), SamplingParams(temperature=0), adapter)
        self.scheduler.add([sequence])
        while len(sequence.output) < count:
            rows = self.scheduler.schedule()
            logits = self.runner.step(rows)
            self.steps += 1
            if rows[0].logits:
                sequence.output.append(logits.best[0])
        self.scheduler.remove(sequence)
        return sequence.output


def test_prompts_come_back_from_disk_with_the_same_answers(folder, tmp_path):
    model = load_model(folder, Dtype.BFLOAT16)
    words = model.architecture.vocab_size
    dice = np.random.default_rng(0)
    prompts = [dice.integers(0, words, 9 * BLOCK_SIZE - 8).tolist() for _ in range(3)]
    save_adapter(tmp_path / "adapter", folder, 1, 4, targets=tuple(model.architecture.linears()), scale=0.5)
    adapter = adapter_reader(model).read("one", tmp_path / "adapter")
    asked = [(prompt, owner) for owner in (None, adapter) for prompt in prompts] * 2
    plain, spilling = Serving(model, None), Serving(model, tmp_path / "prefixes")
    assert [plain.tokens(*one) for one in asked] == [spilling.tokens(*one) for one in asked]
    whole = 8 * BLOCK_SIZE
    assert plain.scheduler.prefixes.found_tokens == 0
    assert spilling.scheduler.prefixes.found_tokens == spilling.scheduler.prefixes.disk_tokens == 6 * whole
    assert spilling.steps < plain.steps
    before = spilling.scheduler.prefixes.disk_tokens
    spilling.cache.forget_adapter(adapter.load_id)
    spilling.tokens(prompts[0], adapter)
    assert spilling.scheduler.prefixes.disk_tokens == before
    spilling.tokens(prompts[1])
    assert spilling.scheduler.prefixes.disk_tokens == before + whole
