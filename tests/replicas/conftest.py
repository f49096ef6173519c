import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loradock.replicas.client import ReplicaClient
from loradock.replicas.http import ReplicaHttp
from loradock.replicas.launcher import ReplicaSpec
from loradock.replicas.process import ENGINE_COMMAND, ProcessLauncher
from loradock.replicas.vllm import VllmSetup
from loradock.types.enums import EngineKind
from tests.engine import tiny
from tests.rig import STUB, eventually

SECRET = "a-secret"
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "adapters"
VLLM_PYTHON = ROOT / ".venvs" / "vllm" / "bin" / "python"
VLLM = pytest.param("vllm", marks=[pytest.mark.slow, pytest.mark.timeout(600)])


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    return tiny.save_base(tmp_path_factory.mktemp("contract") / "tiny")


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory):
    """SmolLM2 as a Hugging Face folder."""
    folder = tmp_path_factory.mktemp("smollm2")
    subprocess.run(
        [sys.executable, "-P", ROOT / "tests" / "smollm2_folder.py", folder], check=True, capture_output=True
    )
    return folder


@pytest.fixture(scope="session")
def tiny_adapters(tmp_path_factory, base):
    folder = tmp_path_factory.mktemp("adapters")
    return [tiny.save_adapter(folder / name, base, seed, rank) for name, seed, rank in (("one", 1, 2), ("two", 2, 4))]


def spec(base: Path, **changed) -> ReplicaSpec:
    return ReplicaSpec(
        **{"id": "rep_one", "secret": SECRET, "model": base, "served_names": ("base", "alias"), "threads": 1, **changed}
    )


@contextlib.asynccontextmanager
async def replica(launcher: ProcessLauncher, wanted: ReplicaSpec, patience: float = 60) -> AsyncIterator[ReplicaClient]:
    instance = launcher.launch(wanted)
    try:
        address = await eventually(instance.address, patience, "the replica listens")
        async with ReplicaHttp() as http:
            client = ReplicaClient(http, address, wanted.secret)
            await eventually(client.healthy, patience, "the replica is ready")
            yield client
    finally:
        instance.terminate(20)


def vllm_launcher(folder: Path, *arguments: str) -> ProcessLauncher:
    setup = VllmSetup(VLLM_PYTHON, ("--max-model-len", "1024", "--max-loras", "3", *arguments))
    return ProcessLauncher(folder, vllm=setup)


@pytest.fixture(params=["stub", "embedded", VLLM])
def engine(request):
    return request.param


@pytest.fixture
def adapter(engine, tiny_adapters):
    return EXAMPLES / "pirate" if engine == "vllm" else tiny_adapters[0]


@pytest.fixture
def other_adapter(engine, tiny_adapters):
    return EXAMPLES / "json" if engine == "vllm" else tiny_adapters[1]


@pytest.fixture
async def client(engine, request, tmp_path, base):
    """The client of a ready replica, of every kind."""
    if engine == "vllm":
        wanted = spec(request.getfixturevalue("smollm2"), engine=EngineKind.VLLM)
        launcher, patience = vllm_launcher(tmp_path / "replicas"), 300
    else:
        wanted, patience = spec(base), 60
        launcher = ProcessLauncher(tmp_path / "replicas", {"stub": STUB, "embedded": ENGINE_COMMAND}[engine])
    async with replica(launcher, wanted, patience) as client:
        yield client
