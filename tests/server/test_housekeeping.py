import asyncio
import os
import time
from contextlib import closing

import pytest

from loradock.configuration.settings import Settings
from loradock.registry.blobs import Blobs
from loradock.server import housekeeping
from loradock.server.bootstrap import open_database
from loradock.server.housekeeping import Housekeeping
from tests.rig import eventually


@pytest.fixture
async def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(housekeeping, "_LOOK_S", 0.02)
    settings = Settings(data_dir=tmp_path / "data")
    with closing(open_database(settings)) as database:
        keeping = Housekeeping(database, Blobs(settings.data_dir), 14, settings.database_file)
        keeping.start()
        yield settings
        await keeping.stop()


@pytest.mark.parametrize("how", ["removed", "replaced"])
async def test_a_database_that_goes_away_under_the_server_is_told_once(kept, caplog, how):
    await asyncio.sleep(0.1)
    if how == "removed":
        kept.database_file.unlink()
    else:
        copy = kept.database_file.with_suffix(".copy")
        copy.write_bytes(kept.database_file.read_bytes())
        copy.rename(kept.database_file)
    await eventually(lambda: f"was {how} while the server runs" in caplog.text)
    await asyncio.sleep(0.1)
    assert caplog.text.count("while the server runs") == 1


async def test_the_reserve_is_kept(kept):
    reserve = kept.data_dir / "reserve"
    await eventually(lambda: len(list(reserve.glob("*"))) == 4)
    (reserve / "1").unlink()
    await eventually((reserve / "1").exists)


async def test_old_trash_goes_while_the_server_runs(kept, monkeypatch):
    monkeypatch.setattr(housekeeping, "_DAY_S", 0.01)
    old = kept.trash / ("ab" * 32)
    old.mkdir(parents=True)
    long_ago = time.time() - 1000
    os.utime(old, (long_ago, long_ago))
    await eventually(lambda: not old.exists())
