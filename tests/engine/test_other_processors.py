"""The compiled decoder's code for processors of another kind than the one at hand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["avx2", "avx512"])
def test_the_decoder_is_right_on_other_processors(kind, tmp_path):
    chosen = "products or attention or smollm or window or alike"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.engine.pretending", "-p", "no:cacheprovider"]
    environment = os.environ | {"PRETEND": kind, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command += ["-k", chosen, "tests/engine/test_compiled.py"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
