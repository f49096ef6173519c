"""Pages of the cache are there before a step needs them."""

import mmap
import os
import time
from pathlib import Path

import numpy as np
import pytest

from loradock.engine.kv_cache.pages import PagesAhead

BLOCK = 64 * 1024
pytestmark = pytest.mark.skipif(
    not Path("/proc/self/pagemap").exists(), reason="only Linux tells which pages are there"
)


@pytest.fixture
def cache():
    """Pages that nobody has touched. From malloc it may be memory that was in use before, whatever its size."""
    return np.frombuffer(mmap.mmap(-1, 2 * 128 * BLOCK), np.uint8).reshape(2, 128, BLOCK)


def present(array: np.ndarray, layer: int, block: int) -> bool:
    """Whether the page in the middle of a block is in memory."""
    page = os.sysconf("SC_PAGE_SIZE")
    number = (array.ctypes.data + (layer * array.shape[1] + block) * BLOCK + BLOCK // 2) // page
    with Path("/proc/self/pagemap").open("rb") as map_:
        map_.seek(8 * number)
        return bool(int.from_bytes(map_.read(8), "little") >> 63)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_next_span_is_brought_in_once_half_of_one_is_used(cache):
    ahead = PagesAhead([cache])
    for block in range(16):
        ahead.used(block)
    assert not present(cache, 1, 60)
    ahead.used(16)
    wait_for(lambda: all(present(cache, layer, block) for layer in (0, 1) for block in range(33, 63)))
    assert not present(cache, 1, 100)
    assert not cache.any()


def test_nothing_beyond_the_last_block(cache):
    ahead = PagesAhead([cache])
    for block in range(96, 128):
        ahead.used(block)
    ahead.used(17)  # brought in after whatever lies beyond
    wait_for(lambda: present(cache, 0, 40))
    assert not cache.any()
