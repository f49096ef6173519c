"""Lost, older, foreign and damaged databases: nothing is deleted, and one line says what to do."""

import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from loradock.configuration.settings import Settings
from loradock.control.fleet.recovery import recover as recover_replicas
from loradock.registry.blobs import Blobs
from loradock.registry.uploads.recovery import recover
from loradock.replicas.process import ProcessLauncher
from loradock.server import data_folder
from loradock.server.bootstrap import ensure_bootstrap_key, lock_data_dir, open_database, open_existing_database
from loradock.server.data_folder import told_when_full
from loradock.store.accounts import ensure_account
from loradock.store.database import Database
from loradock.store.schema import is_newest
from loradock.store.tables import Job, Model, Revision
from loradock.types.enums import ModelKind, ModelState
from loradock.types.errors import DataUnusable
from tests.locked import locked
from tests.small_disk import small_disk
from tests.store.old_databases import check_rows, make

PIRATE, SHOUT = "aa" * 32, "bb" * 32


@pytest.fixture
def settings(tmp_path):
    """Of a server that ran, with the files of one adapter."""
    settings = Settings(data_dir=tmp_path / "data")
    with closing(open_database(settings)) as database:
        ensure_bootstrap_key(database, settings)
        add(database, "pirate", PIRATE)
    put_files(settings, PIRATE)
    return settings


def add(database, short, digest):
    with database.session() as session:
        account = ensure_account(session, "local")
        model = Model(
            id=f"ml_{short}",
            account_id=account.id,
            name=f"local/{short}",
            kind=ModelKind.ADAPTER,
            state=ModelState.READY,
        )
        session.add(model)
        session.add(Revision(id=f"rev_{short}", model=model, digest=digest, size_bytes=1))
        session.add(
            Job(id=f"job_{short}", account_id=account.id, type="adapter_upload", model_id=model.id, status="Complete")
        )


def put_files(settings, *digests):
    for digest in digests:
        folder = Blobs(settings.data_dir).path(digest)
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_text(digest)


def start(settings):
    """As far as a start goes before it serves."""
    with closing(open_database(settings)) as database:
        recover(database, Blobs(settings.data_dir), settings.trash_days)


def stored(settings) -> list[str]:
    return sorted(path.name for path in Blobs(settings.data_dir).root.iterdir())


def trashed(settings) -> list[str]:
    return sorted(path.name for path in settings.trash.glob("*"))


def anew(settings) -> Settings:
    return Settings(data_dir=settings.data_dir, begin_anew=True)


@pytest.mark.parametrize("how", ["gone", "empty"])
def test_a_lost_database_is_not_replaced(settings, how):
    lost = settings.database_file.with_name("elsewhere.db")
    settings.database_file.rename(lost)
    if how == "empty":
        settings.database_file.touch()
    with pytest.raises(DataUnusable, match=r"put the file or a backup of it back.*--begin-anew"):
        start(settings)
    assert stored(settings) == [PIRATE]
    lost.rename(settings.database_file)
    start(settings)
    assert stored(settings) == [PIRATE]


@pytest.mark.parametrize("left", ["bootstrap-key", "replicas/rep_1", "loradock.db-wal"])
def test_whatever_a_server_left_tells_of_a_lost_database(tmp_path, left):
    trace = tmp_path / left
    trace.parent.mkdir(exist_ok=True)
    trace.write_text("x")
    with pytest.raises(DataUnusable, match="a server has run here"):
        start(Settings(data_dir=tmp_path))
    assert not (tmp_path / "loradock.db").exists()


def test_beginning_anew_keeps_the_files_and_the_old_database_takes_them_back(settings, caplog):
    old = settings.database_file.read_bytes()
    settings.database_file.unlink()
    with caplog.at_level(logging.WARNING):
        start(anew(settings))
    assert "the files of 1 models that the database does not know were set aside" in caplog.text
    assert (stored(settings), trashed(settings)) == ([], [PIRATE])
    start(settings)  # a start without the flag goes on with the new one
    assert trashed(settings) == [PIRATE]
    settings.database_file.write_bytes(old)
    start(settings)
    assert (stored(settings), trashed(settings)) == ([PIRATE], [])
    assert (Blobs(settings.data_dir).path(PIRATE) / "adapter_model.safetensors").read_text() == PIRATE


def test_an_older_backup_sets_newer_files_aside_until_the_newer_is_back(settings):
    backup = settings.database_file.read_bytes()
    with closing(open_database(settings)) as database:
        add(database, "shout", SHOUT)
    put_files(settings, SHOUT)
    newer = settings.database_file.read_bytes()
    settings.database_file.write_bytes(backup)
    start(settings)
    assert (stored(settings), trashed(settings)) == ([PIRATE], [SHOUT])
    settings.database_file.write_bytes(newer)
    start(settings)
    assert (stored(settings), trashed(settings)) == ([PIRATE, SHOUT], [])


def test_another_installations_database_is_refused(settings, tmp_path):
    other = Settings(data_dir=tmp_path / "other")
    with closing(open_database(other)) as database:
        add(database, "shout", SHOUT)
    shutil.copy(other.database_file, settings.database_file)
    with pytest.raises(DataUnusable, match="knows none of the 1 models"):
        start(settings)
    assert stored(settings) == [PIRATE]
    start(anew(settings))
    assert (stored(settings), trashed(settings)) == ([], [PIRATE])


def test_files_that_are_not_adapters_are_left_alone(settings):
    """A mount point's, say."""
    (Blobs(settings.data_dir).root / "lost+found").mkdir()
    start(settings)
    assert stored(settings) == [PIRATE, "lost+found"]


def test_a_missing_blobs_folder_is_not_replaced(settings):
    shutil.rmtree(settings.data_dir / "blobs")
    with pytest.raises(DataUnusable, match="is its disk mounted"):
        start(settings)
    assert not (settings.data_dir / "blobs").exists()


def test_missing_files_are_named(settings, caplog):
    shutil.rmtree(Blobs(settings.data_dir).path(PIRATE))
    start(settings)
    assert "the files of 1 of 1 models are missing in blobs/ (local/pirate)" in caplog.text


def test_run_folders_that_the_database_does_not_know_are_set_aside(settings):
    log = settings.data_dir / "replicas" / "rep_1" / "engine.log"
    log.parent.mkdir(parents=True)
    log.write_text("last words")
    with closing(open_database(settings)) as database:
        assert recover_replicas(database, ProcessLauncher(settings.data_dir / "replicas"), 1) == []
    assert not log.parent.exists()
    assert (settings.trash / "rep_1" / "engine.log").read_text() == "last words"


def test_the_trash_is_emptied_after_its_days(settings):
    settings.database_file.unlink()
    start(anew(settings))
    start(settings)
    assert trashed(settings) == [PIRATE]
    long_ago = time.time() - 15 * 86_400
    os.utime(settings.trash / PIRATE, (long_ago, long_ago))
    start(settings)
    assert trashed(settings) == []


def overwrite(file, start, data):
    with file.open("r+b") as stream:
        stream.seek(start)
        stream.write(data)


def checkpointed(file):
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


DAMAGES = {
    "no database": (lambda file: file.write_text("# notes\n" * 1000), "is not an SQLite database"),
    "its beginning": (lambda file: overwrite(file, 0, b"\xff" * 4096), "is not an SQLite database"),
    "its middle": (lambda file: overwrite(file, 4096 * 3, os.urandom(4096 * 12)), "damaged"),
    "cut off": (lambda file: os.truncate(file, 4096 * 5), "damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_database_is_told_and_can_be_set_aside(settings, damage):
    checkpointed(settings.database_file)
    inflict, told = DAMAGES[damage]
    inflict(settings.database_file)
    damaged = settings.database_file.read_bytes()
    with pytest.raises(DataUnusable, match=told) as refused:
        start(settings)
    assert "--begin-anew" in refused.value.message
    assert "\n" not in refused.value.message
    start(anew(settings))
    assert trashed(settings)[0] == PIRATE
    assert next(settings.trash.glob("database-*/loradock.db")).read_bytes() == damaged


def test_a_whole_database_is_not_set_aside(settings):
    start(anew(settings))
    assert (stored(settings), trashed(settings)) == ([PIRATE], [])


def test_a_locked_database_is_told(settings, monkeypatch):
    monkeypatch.setattr(data_folder, "Database", partial(Database, patience=0.1))
    with locked(settings.database_file), pytest.raises(DataUnusable, match="locked by another program"):
        start(settings)


AS_ANOTHER = """
import os, sys
from pathlib import Path
import sqlalchemy.dialects.sqlite
from loradock.configuration.settings import Settings
from loradock.server.bootstrap import open_database
from loradock.types.errors import DataUnusable
settings = Settings(Path(sys.argv[1]))
open_database(settings).close()
settings.database_file.chmod(0o444)
if os.geteuid() == 0:  # who may write everything
    os.setuid(65534)
try:
    open_database(settings)
except DataUnusable as error:
    print(error.message)
"""


def test_a_database_that_may_only_be_read_is_told():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        result = subprocess.run([sys.executable, "-c", AS_ANOTHER, folder], capture_output=True, text=True, check=True)
    assert "cannot be opened for writing: it belongs to user" in result.stdout


def test_a_folder_in_its_place_is_told(settings):
    settings.database_file.rename(settings.database_file.with_suffix(".moved"))
    settings.database_file.mkdir()
    with pytest.raises(DataUnusable, match="cannot be opened"):
        start(settings)


def test_a_data_folder_that_is_none_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataUnusable, match=r"data folder .* cannot be used"):
        start(Settings(data_dir=tmp_path / "file" / "data"))


def test_a_mistyped_folder_is_not_made(tmp_path):
    with pytest.raises(DataUnusable, match=r"there is no Loradock database in .*check --data-dir"):
        open_existing_database(Settings(data_dir=tmp_path / "typo"))
    assert not (tmp_path / "typo").exists()


def test_an_upgrade_without_room_changes_nothing(tmp_path):
    with small_disk(tmp_path / "disk", 4) as disk:
        settings = Settings(data_dir=disk.folder / "data")
        settings.data_dir.mkdir()
        make(settings.database_file, "0001")
        disk.fill()
        with pytest.raises(DataUnusable, match="is full: make room"), told_when_full(settings.data_dir):
            open_database(settings)
        assert [path.name for path in settings.data_dir.iterdir() if "schema" in path.name] == []
        disk.make_room()
        check_rows(settings.database_file)
        (settings.data_dir / "blobs" / "sha256").mkdir(parents=True)
        open_database(settings).close()
        check_rows(settings.database_file)


def test_keys_do_not_upgrade_under_a_running_server(tmp_path):
    settings = Settings(data_dir=tmp_path)
    make(settings.database_file, "0003")
    with lock_data_dir(tmp_path), pytest.raises(DataUnusable, match="restart it first"):
        open_existing_database(settings)
    with closing(open_existing_database(settings)) as database:
        assert is_newest(database.engine)


def test_a_start_that_is_refused_is_one_line(settings):
    settings.database_file.write_text("# notes\n" * 1000)
    command = [sys.executable, "-m", "loradock.cli.main", "serve", "--port", "0", "--data-dir", str(settings.data_dir)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "is not an SQLite database" in result.stderr
