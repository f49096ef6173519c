import pytest

from loradock.store.database import Database, migrate


@pytest.fixture
def database(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'loradock.db'}")
    migrate(database.engine)
    yield database
    database.close()
