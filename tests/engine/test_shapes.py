"""Models of many shapes give transformers' logits, start after start."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine import shapes

ROOT = Path(__file__).parent.parent.parent
STARTS = int(os.environ.get("LORADOCK_TEST_STARTS", "20"))
"""Engine starts; 200 take some minutes."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    home = tmp_path_factory.mktemp("shapes")
    return [shapes.save(home / f"{n}", shapes.shape(n)) for n in range(20)]


def differences(folders, *dtypes):
    """Of an engine process that starts on one folder after the other."""
    command = [sys.executable, "-m", "tests.engine.shapes", *map(str, folders), "--dtype", *dtypes]
    ran = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return [json.loads(line) for line in ran.stdout.splitlines()]


def wrong(found):
    return [one for one in found if not one["difference"] <= shapes.FAR[one["dtype"]]]


def test_every_shape_as_in_transformers(folders):
    found = differences(folders[:12], "bfloat16", "float32")
    assert len(found) == 24
    assert wrong(found) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_start_after_start(folders):
    found = [one for n in range(STARTS) for one in differences([folders[n % len(folders)]], "bfloat16")]
    assert len(found) == STARTS
    assert wrong(found) == []


@pytest.mark.slow
def test_an_altered_kernel_is_refused_at_start(folders, tmp_path):
    """The last of an odd number of values is left out."""
    for part in ("src/loradock", "native"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    kernel, line = tmp_path / "native/attention.c", "p < high; p += 2)"
    assert line in kernel.read_text()
    kernel.write_text(kernel.read_text().replace(line, line.replace("high", "high - 1")))
    run([sys.executable, "-m", "pip", "install", "-q", "--target", tmp_path / "compiler", "ziglang==0.17.1"])
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'src'}:{tmp_path / 'compiler'}"}
    run([sys.executable, tmp_path / "native/build.py", "--only-here"], environment)
    command = [sys.executable, "-m", "loradock.cli.main", "engine", "--model", str(folders[0])]
    ran = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=280)
    assert ran.returncode == 1
    assert "compiled kernels compute wrong numbers" in ran.stderr.splitlines()[-1]


def run(command, environment=None):
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
