import stat
import subprocess
import sys

import pytest

from loradock.configuration.settings import Settings
from loradock.server.bootstrap import ensure_bootstrap_key, lock_data_dir, open_database
from loradock.store.accounts import list_keys, revoke_key, valid_key
from loradock.types.errors import BadRequest
from tests.servers import RunningServer, create_endpoint, free_port


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def database(settings):
    opened = open_database(settings)
    yield opened
    opened.close()


def test_a_made_key_is_shown_once_kept_private_and_used_again(settings, database):
    plain, made = ensure_bootstrap_key(database, settings)
    assert made
    assert plain.startswith("ld-")
    assert stat.S_IMODE(settings.key_file.stat().st_mode) == 0o600
    assert settings.key_file.read_text().strip() == plain
    assert ensure_bootstrap_key(database, settings) == (plain, False)
    with database.session() as session:
        assert valid_key(session, plain).account.slug == "local"
        assert len(list_keys(session)) == 1


def test_a_given_key_wins(settings, database):
    ensure_bootstrap_key(database, settings)
    given = Settings(data_dir=settings.data_dir, bootstrap_account="acme", bootstrap_key="ld-given")
    assert ensure_bootstrap_key(database, given) == ("ld-given", False)
    with database.session() as session:
        assert valid_key(session, "ld-given").account.slug == "acme"
    assert settings.key_file.read_text().strip() == "ld-given"


def test_a_revoked_key_does_not_come_back(settings, database):
    plain, _ = ensure_bootstrap_key(database, settings)
    with database.session() as session:
        revoke_key(session, list_keys(session)[0].id)
    fresh, made = ensure_bootstrap_key(database, settings)
    assert made
    with database.session() as session:
        assert valid_key(session, plain) is None
        assert valid_key(session, fresh) is not None


def test_one_server_per_data_folder(settings, database):
    with lock_data_dir(settings.data_dir), pytest.raises(BadRequest, match="already runs on"):
        lock_data_dir(settings.data_dir)
    lock_data_dir(settings.data_dir).close()


def test_a_stopped_server_ends_well_and_starts_again_as_it_was(tmp_path):
    running = RunningServer(tmp_path / "data").start()
    with running.client() as http:
        endpoint = create_endpoint(http, state="STOPPED", display_name="kept")
    running.stop()
    assert running.process.returncode == 0
    running.start()
    with running.client() as http:
        assert http.get(f"/v1/endpoints/{endpoint['id']}").json() == endpoint
    running.stop()


def test_a_taken_port_is_named(server, tmp_path):
    command = [sys.executable, "-m", "loradock.cli.main", "serve", "--port", str(server.port)]
    result = subprocess.run([*command, "--data-dir", str(tmp_path)], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert f"port {server.port}" in result.stderr


def test_a_second_server_says_why_it_does_not_start(server):
    command = [sys.executable, "-m", "loradock.cli.main", "serve", "--port", str(free_port())]
    result = subprocess.run([*command, "--data-dir", str(server.data_dir)], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "another loradock server already runs" in result.stderr
