"""Processes of this machine: found again by who they are, never by their number alone."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from loradock.replicas.log import last_words
from loradock.replicas.process import ProcessLauncher
from loradock.types.enums import Quantization
from tests.replicas.conftest import SECRET, spec
from tests.rig import STUB


@pytest.fixture
def launcher(tmp_path):
    launcher = ProcessLauncher(tmp_path / "replicas", STUB)
    yield launcher
    for left in launcher.running():
        launcher.find(left).terminate(5)


@pytest.fixture
def model(tmp_path):
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def until(check, seconds=20):
    deadline = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def test_it_is_found_again_by_another_launcher_and_ended(launcher, model, tmp_path):
    instance = launcher.launch(spec(model))
    until(instance.address)
    another = ProcessLauncher(tmp_path / "replicas", STUB)
    found = another.find("rep_one")
    assert (found.pid, found.address(), another.running()) == (instance.pid, instance.address(), {"rep_one"})
    found.terminate(5)
    assert not instance.alive()
    assert not found.alive()
    assert (another.find("rep_one"), another.running()) == (None, set())
    assert another.remains() == {"rep_one"}
    another.discard("rep_one")
    assert another.remains() == set()


def test_it_is_found_before_it_has_announced_itself(launcher, model, tmp_path):
    silent = (sys.executable, "-c", "import time; time.sleep(60)")
    instance = ProcessLauncher(tmp_path / "replicas", silent).launch(spec(model))
    assert launcher.running() == {"rep_one"}
    assert launcher.find("rep_one").pid == instance.pid
    assert instance.address() is None


def test_a_reused_number_is_not_taken_for_a_replica(launcher, model):
    instance = launcher.launch(spec(model))
    until(instance.address)
    instance.terminate(5)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    announce = launcher._root / "rep_one" / "announce.json"
    announce.write_text(json.dumps({"pid": stranger.pid, "port": 1}))
    try:
        assert launcher.find("rep_one") is None
        assert instance.address() is None
        assert not instance.alive()
    finally:
        stranger.kill()
        stranger.wait()


def test_one_that_ignores_sigterm_is_killed(model, tmp_path):
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    launcher = ProcessLauncher(tmp_path / "replicas", (sys.executable, "-c", deaf))
    instance = launcher.launch(spec(model))
    until(lambda: launcher.log_tail("rep_one", 1) == "deaf")
    instance.terminate(0.2)
    assert not instance.alive()


def test_it_lives_in_a_session_of_its_own_and_its_secret_is_not_on_display(launcher, model):
    instance = launcher.launch(spec(model))
    assert os.getsid(instance.pid) == instance.pid
    assert SECRET not in " ".join(psutil.Process(instance.pid).cmdline())


@pytest.mark.parametrize(("quantization", "flags"), [(Quantization.INT4, ["--quantization", "int4"]), (None, [])])
def test_it_is_told_in_how_many_bits_to_keep_weights(launcher, model, quantization, flags):
    instance = launcher.launch(spec(model, threads=0, quantization=quantization))
    command = instance._process.cmdline()
    assert command[command.index("--max-lora-rank") + 2 :] == flags


def test_it_is_told_what_else_the_operator_wants(tmp_path, model):
    launcher = ProcessLauncher(tmp_path, engine_arguments=["--speculative-tokens", "0"])
    instance = launcher.launch(spec(model))
    try:
        assert instance._process.cmdline()[-2:] == ["--speculative-tokens", "0"]
    finally:
        instance.terminate(0.2)


@pytest.mark.parametrize(("shares", "policy"), [(True, "PASSIVE"), (False, None)])
def test_replicas_that_share_the_cores_do_not_spin(launcher, model, monkeypatch, shares, policy):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    instance = launcher.launch(spec(model, shares_cpu=shares))
    try:
        assert instance._process.environ().get("OMP_WAIT_POLICY") == policy
    finally:
        instance.terminate(5)


def test_a_killed_child_leaves_no_zombie_and_its_death_is_seen(launcher, model):
    instance = launcher.launch(spec(model))
    os.kill(instance.pid, signal.SIGKILL)
    until(lambda: not instance.alive())
    assert launcher.running() == set()


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", ""),
        ("INFO loading\nERROR cannot serve x: no such architecture\n", "ERROR cannot serve x: no such architecture"),
        ("Traceback (most recent call last):\n  File x\nValueError: cut off weights\n", "ValueError: cut off weights"),
        ("terminate called: out of memory\nAborted\n", "terminate called: out of memory\nAborted"),
    ],
)
def test_last_words(tmp_path, log, words):
    (tmp_path / "engine.log").write_text(log)
    assert last_words(tmp_path / "engine.log") == words
