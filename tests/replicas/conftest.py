from pathlib import Path

import aiohttp
import pytest

from loradock.replicas.client import ReplicaClient
from loradock.replicas.launcher import ReplicaSpec
from loradock.replicas.process import ENGINE_COMMAND, ProcessLauncher
from tests.engine import tiny
from tests.rig import STUB, eventually

SECRET = "a-secret"


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    return tiny.save_base(tmp_path_factory.mktemp("contract") / "tiny")


@pytest.fixture(scope="session")
def adapter(tmp_path_factory, base):
    return tiny.save_adapter(tmp_path_factory.mktemp("contract") / "one", base, seed=1, rank=2)


@pytest.fixture(scope="session")
def other_adapter(tmp_path_factory, base):
    return tiny.save_adapter(tmp_path_factory.mktemp("contract") / "two", base, seed=2, rank=4)


def spec(base: Path, **changed) -> ReplicaSpec:
    return ReplicaSpec(
        **{"id": "rep_one", "secret": SECRET, "model": base, "served_names": ("base", "alias"), "threads": 1, **changed}
    )


@pytest.fixture(params=[STUB, ENGINE_COMMAND], ids=["stub", "embedded"])
async def client(request, tmp_path, base):
    """The client of a ready replica, of either kind."""
    launcher = ProcessLauncher(tmp_path / "replicas", request.param)
    instance = launcher.launch(spec(base))
    try:
        address = await eventually(instance.address, 60, "the replica listens")
        async with aiohttp.ClientSession() as http:
            client = ReplicaClient(http, address, SECRET)
            await eventually(client.healthy, 60, "the replica is ready")
            yield client
    finally:
        instance.terminate(10)
