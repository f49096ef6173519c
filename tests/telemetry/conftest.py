import pytest

from loradock.store.database import Database, migrate


@pytest.fixture
def database(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'loradock.db'}")
    migrate(database.engine)
    yield database
    database.close()


@pytest.fixture
def stranger(server):
    """A client of another account."""
    with server.client(server.make_key("outsider")) as client:
        yield client
