"""kill -9 while the schema is made or upgraded: the next start finds everything, 30 of 30 times."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from loradock.configuration.settings import Settings
from loradock.server.bootstrap import open_database
from loradock.store.accounts import valid_key
from tests.store.old_databases import ROWS, check_rows, make

# Forks a start per folder that it reads, so that a round does not begin with importing everything; an empty line
# waits for its end.
STARTS = """
import os, sys
from pathlib import Path
from loradock.configuration.settings import Settings
from loradock.server.bootstrap import ensure_bootstrap_key, open_database
import loradock.store.schema, alembic.command, sqlalchemy.dialects.sqlite
for line in sys.stdin:
    if not line.strip():
        print(os.waitpid(pid, 0)[1], flush=True)
        continue
    pid = os.fork()
    if not pid:
        settings = Settings(Path(line.strip()))
        database = open_database(settings)
        ensure_bootstrap_key(database, settings)
        database.close()
        os._exit(0)
    print(pid, flush=True)
"""


@pytest.fixture
def starts():
    command = [sys.executable, "-c", STARTS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()


def told(starts, line: str) -> int:
    starts.stdin.write(f"{line}\n")
    starts.stdin.flush()
    return int(starts.stdout.readline())


def killed_rounds(starts, folder, prepare, check, rounds: int) -> None:
    """Kills at random moments of what an undisturbed start takes, and now and then twice in a row."""
    chance = random.Random(5)
    prepare(folder / "whole")
    began = time.monotonic()
    told(starts, folder / "whole")
    assert told(starts, "") == 0
    takes = time.monotonic() - began
    ends = []
    for round_ in range(rounds):
        data_dir = folder / f"round-{round_}"
        prepare(data_dir)
        for _ in range(chance.choice((1, 1, 2))):
            pid = told(starts, data_dir)
            time.sleep(chance.uniform(0, takes))
            os.kill(pid, signal.SIGKILL)
            ends.append(told(starts, ""))
        told(starts, data_dir)
        assert told(starts, "") == 0
        check(data_dir)
    assert set(ends) <= {0, signal.SIGKILL}
    assert signal.SIGKILL in ends


def old(data_dir) -> None:
    (data_dir / "blobs" / "sha256" / ROWS["revisions"]["digest"]).mkdir(parents=True)
    make(data_dir / "loradock.db", "0001")


def usable(data_dir) -> None:
    settings = Settings(data_dir)
    with closing(open_database(settings)) as database, database.session() as session:
        assert valid_key(session, settings.key_file.read_text().strip()) is not None


def with_all_rows(data_dir) -> None:
    usable(data_dir)
    check_rows(data_dir / "loradock.db")
    assert (data_dir / "blobs" / "sha256" / ROWS["revisions"]["digest"]).is_dir()


FEW, ALL = 6, 30


@pytest.mark.parametrize("rounds", [FEW, pytest.param(ALL, marks=pytest.mark.slow)])
def test_killed_during_the_first_start(starts, tmp_path, rounds):
    killed_rounds(starts, tmp_path, Path.mkdir, usable, rounds)


@pytest.mark.parametrize("rounds", [FEW, pytest.param(ALL, marks=pytest.mark.slow)])
def test_killed_during_an_upgrade_with_data(starts, tmp_path, rounds):
    killed_rounds(starts, tmp_path, old, with_all_rows, rounds)
