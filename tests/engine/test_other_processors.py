"""The kernels that this processor would not choose by itself, and those of simpler ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loradock.engine.kernels.library import CHOICE, every_set

ROOT = Path(__file__).parent.parent.parent
OTHERS = [table.name.decode() for table in every_set()][1:]
NONE = pytest.param(None, marks=pytest.mark.skip(reason="no other set was built or runs here: native/build.py"))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", OTHERS or [NONE])
def test_the_decoder_is_right_with_other_kernels(name):
    chosen = "(smollm or qwen3 or window) and not twelve or attends_alike"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen]
    command.append("tests/engine/test_native.py")
    environment = os.environ | {CHOICE: name, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
