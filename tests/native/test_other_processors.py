"""The kernels on processors that this machine is not, emulated: which sets they choose, and that those are right."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ZIG = ROOT / ".venvs/zig/bin/python"
PROCESSORS = {
    ("x86_64", "Nehalem"): ["plain"],
    ("x86_64", "Haswell"): ["avx2", "plain"],
    ("aarch64", "cortex-a72"): ["neon"],
    ("aarch64", "neoverse-n1"): ["neondot", "neon"],
    ("aarch64", "max"): ["neoni8mm", "neondot", "neon"],
}
"""By the emulator's names. It knows no AVX-512."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    folder, cache = tmp_path_factory.mktemp("check"), {"ZIG_GLOBAL_CACHE_DIR": str(ROOT / ".cache/zig")}
    for family in ("x86_64", "aarch64"):
        build = [ZIG, ROOT / "native/build.py", "--check", "--family", family, "--out", folder / family]
        subprocess.run(build, env=cache | os.environ, check=True)
    return folder


@pytest.mark.parametrize(("family", "processor"), PROCESSORS)
def test_an_emulated_processor_computes_rightly(programs, family, processor):
    command = [f"qemu-{family}-static", "-cpu", processor, programs / family]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == PROCESSORS[family, processor]
