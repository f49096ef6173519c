import atexit
import os
import shutil
import tempfile

import pytest
from hypothesis import settings

from tests.servers import EXAMPLES, RunningServer, create_endpoint, upload, wait_state

# Threads that wait for each other by turning in circles take the processors from the other worker's tests. OpenMP reads
# this when torch is imported; engines inherit it, as they get it from a server that has several (replicas/process.py).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# NumPy reads this when it is imported; its threads would stay in the way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if "LORADOCK_CACHE_DIR" not in os.environ:
    # Workers inherit it, and all engines: a base model is packed once for all tests.
    os.environ["LORADOCK_CACHE_DIR"] = tempfile.mkdtemp(prefix="loradock-cache-")
    atexit.register(shutil.rmtree, os.environ["LORADOCK_CACHE_DIR"], ignore_errors=True)
# How long an example takes says nothing here: other tests share the processors.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server for the tests of a file: what it counts, lists and tells is theirs alone."""
    running = RunningServer(tmp_path_factory.mktemp("server") / "data", flags=("--import-root", str(EXAMPLES))).start()
    yield running
    running.stop()


@pytest.fixture
def http(server):
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def dock(server):
    """A started LoRA endpoint and three uploaded adapters (not attached)."""
    with server.client() as client:
        endpoint = create_endpoint(client, display_name="dock")
        for name in ("pirate", "json", "shout"):
            job = upload(client, name)
            assert job["status"] == "Complete", job
        return wait_state(client, endpoint["id"], "STARTED")
