"""The same tests with a library that looks at every address and every operation, as gcc makes it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLAGS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1", "-g")
BEYOND = """
import numpy as np
from tests.native.conftest import TABLES

table = next(iter(TABLES.values()))
numbers = np.zeros(5000, np.uint16)
table.finite(numbers.ctypes.data, 5000 + {more})
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs Python with such a library."""
    library = tmp_path_factory.mktemp("native") / "sanitized.so"
    build = [sys.executable, ROOT / "native/build.py", "--out", library, *(f"--flag={flag}" for flag in FLAGS)]
    subprocess.run(build, env=os.environ | {"CC": "gcc"}, check=True)
    found = [
        subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    environment = os.environ | {
        "LD_PRELOAD": " ".join(found),
        "ASAN_OPTIONS": "detect_leaks=0",
        "LORADOCK_TESTED_LIBRARY": str(library),
    }

    def run(*arguments):
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    return run


def test_all_kernels_stay_within_their_arrays(run):
    done = run("-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-m", "not slow", "tests/native")
    assert done.returncode == 0, done.stdout + done.stderr


def test_who_does_not_is_found(run):
    assert run("-c", BEYOND.format(more=0)).returncode == 0
    done = run("-c", BEYOND.format(more=1))
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
