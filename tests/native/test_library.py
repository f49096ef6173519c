"""The library itself, and the border to it."""

from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest

from loradock.engine.errors import NoKernels
from loradock.engine.kernels import library, structures
from loradock.engine.kernels.border import pointer


@pytest.fixture
def fresh():
    """The library is looked for anew, and the right one again afterwards."""
    library.kernels.cache_clear(), library._library.cache_clear()
    yield
    library.kernels.cache_clear(), library._library.cache_clear()


def test_a_library_of_another_version_is_not_called(monkeypatch, fresh):
    monkeypatch.setattr(library, "SIZES", (*structures.SIZES[:-1], structures.SIZES[-1] + 1))
    with pytest.raises(NoKernels, match="another version"):
        library.kernels()


def test_another_library_is_not_called(monkeypatch, fresh):
    monkeypatch.setattr(library, "_FILE", Path(find_library("c")))
    with pytest.raises(NoKernels, match="another version"):
        library.kernels()


def test_no_library_is_said(monkeypatch, fresh, tmp_path):
    monkeypatch.setattr(library, "_FILE", tmp_path / "native.so")
    with pytest.raises(NoKernels, match=r"native\.so cannot be loaded"):
        library.kernels()


def test_the_best_set_is_used_unless_another_is_named(monkeypatch, fresh):
    names = [table.name.decode() for table in library.every_set()]
    assert len(names) == len(set(names))
    monkeypatch.delenv(library.CHOICE, raising=False)
    assert library.kernels().name.decode() == names[0]
    library.kernels.cache_clear()
    monkeypatch.setenv(library.CHOICE, names[-1])
    assert library.kernels().name.decode() == names[-1]
    library.kernels.cache_clear()
    monkeypatch.setenv(library.CHOICE, "sse9")
    with pytest.raises(NoKernels, match="sse9 is none of"):
        library.kernels()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 3), np.float64),
        np.zeros((3, 4), np.float32),
        np.zeros((4, 6), np.float32)[:, ::2],
        np.zeros((3, 4), np.float32).T,
    ],
)
def test_only_what_was_asked_for_has_an_address(array):
    with pytest.raises(ValueError, match="in one piece"):
        pointer(array, np.float32, (4, 3))


def test_an_address_is_the_arrays():
    array = np.zeros((4, 3), np.float32)
    assert pointer(array, np.float32, (4, 3), written=True) == array.ctypes.data
    array.setflags(write=False)
    assert pointer(array, np.float32, (4, 3)) == array.ctypes.data
    with pytest.raises(ValueError, match="must not be changed"):
        pointer(array, np.float32, (4, 3), written=True)
