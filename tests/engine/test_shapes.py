"""Models of many shapes give transformers' logits, whether the kernels were just compiled or read from their cache."""

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
"""Engine starts with kept kernels; 200 take ten minutes."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    home = tmp_path_factory.mktemp("shapes")
    return [shapes.save(home / f"{n}", shapes.shape(n)) for n in range(20)]


def differences(folders, *dtypes, **environment):
    """Of an engine process that starts on one folder after the other."""
    command = [sys.executable, "-m", "tests.engine.shapes", *map(str, folders), "--dtype", *dtypes]
    ran = subprocess.run(
        command, check=False, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return [json.loads(line) for line in ran.stdout.splitlines()]


def wrong(found):
    return [one for one in found if not one["difference"] <= shapes.FAR[one["dtype"]]]


def test_every_shape_as_in_transformers(folders):
    found = differences(folders[:12], "bfloat16", "float32")
    assert len(found) == 24
    assert wrong(found) == []


@pytest.mark.slow
def test_kept_kernels_compute_what_fresh_ones_do(folders, tmp_path):
    for _ in ("compiled", "kept"):
        assert wrong(differences(folders, "bfloat16", NUMBA_CACHE_DIR=str(tmp_path))) == []
    assert list(tmp_path.glob("kernels-*/**/*.nbc"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_start_after_start_with_kept_kernels(folders):
    found = [one for n in range(STARTS) for one in differences([folders[n % len(folders)]], "bfloat16")]
    assert len(found) == STARTS
    assert wrong(found) == []


@pytest.mark.slow
def test_an_altered_kernel_is_refused_at_start(folders, tmp_path):
    package = tmp_path / "loradock"
    shutil.copytree(ROOT / "src" / "loradock", package, ignore=shutil.ignore_patterns("__pycache__"))
    kernel = package / "engine" / "kernels" / "compiled" / "attention.py"
    line = "short_runs(weights, stride, count, rest, size, ahead, dim - long, below, dim * 4)"
    assert line in kernel.read_text()
    kernel.write_text(kernel.read_text().replace(line, line.replace("count", "count - 1")))
    command = [sys.executable, "-m", "loradock.cli.main", "engine", "--model", str(folders[0])]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=280)
    assert ran.returncode == 1
    assert "compiled kernels compute wrong numbers" in ran.stderr.splitlines()[-1]
    assert "kernels-" in ran.stderr
