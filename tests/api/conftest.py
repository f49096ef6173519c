import pytest

from tests.servers import EXAMPLES, create_endpoint, upload


@pytest.fixture
def endpoint(http):
    """A stopped endpoint: no engine is started for it."""
    made = create_endpoint(http, state="STOPPED")
    yield made
    assert http.delete(f"/v1/endpoints/{made['id']}").status_code in (204, 404)


@pytest.fixture
def adapter(http):
    job = upload(http, "contract-test", folder=EXAMPLES / "pirate")
    assert job["status"] == "Complete", job
    yield "tester/contract-test"
    path = "/v1/models/tester%2Fcontract-test"
    deleted = next(answer for _ in range(500) if "last requests" not in (answer := http.delete(path)).text)
    assert deleted.status_code in (200, 404)


@pytest.fixture(scope="module")
def stranger(server):
    """A client of another account."""
    with server.client(server.make_key("stranger")) as client:
        yield client
