import pytest

from tests.databases import open_database


@pytest.fixture
def database(tmp_path):
    database = open_database(tmp_path / "loradock.db")
    yield database
    database.close()


@pytest.fixture
def stranger(server):
    """A client of another account."""
    with server.client(server.make_key("outsider")) as client:
        yield client
