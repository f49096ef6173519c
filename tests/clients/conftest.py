import pytest

from tests.clients.clients import environment
from tests.servers import KEY


@pytest.fixture
def env(server, tmp_path):
    return environment(server.url, KEY, tmp_path)


@pytest.fixture
def attached(http, dock):
    """All three adapters attached, whatever the test before did; returns the endpoint."""
    for name in ("pirate", "json", "shout"):
        body = {"model_id": f"{dock['name']}:tester/{name}"}
        response = http.post(f"/v1/endpoints/{dock['id']}/adapters", json=body)
        assert response.status_code == 200, response.text
    return dock
