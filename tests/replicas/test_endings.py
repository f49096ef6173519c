"""What is said about a process that ended, by what the system tells of it."""

import os
import platform
import signal
import sys
import time

import psutil
import pytest

from loradock.replicas.endings import fate_of, reason_of
from loradock.replicas.process import ProcessLauncher
from loradock.types.enums import Fate
from tests.groups import own_group, within
from tests.replicas.conftest import spec

READY = "2026-01-02 03:04:05,678 INFO ready: base"


@pytest.mark.parametrize(
    ("exit_code", "words", "reason"),
    [
        (-9, READY, "killed by signal 9, probably out of memory (RSS 1.50 GiB)"),
        (-9, "2026-01-02 03:04:05,678 ERROR x", "killed by signal 9, probably out of memory (RSS 1.50 GiB)"),
        (-15, READY, "killed by signal 15 (SIGTERM): somebody ended it"),
        (-11, READY, "crashed: signal 11 (SIGSEGV) (RSS 1.50 GiB)"),
        (-6, "double free", "crashed: signal 6 (SIGABRT) (RSS 1.50 GiB); its last words: double free"),
        (1, "2026-01-02 03:04:05,678 ERROR no such weights", "no such weights"),
        (1, "ValueError: cut off weights", "ValueError: cut off weights"),
        (3, READY, "it ended with exit code 3 without saying why (RSS 1.50 GiB)"),
        (
            3,
            "(APIServer pid=7) INFO 01-02 03:04:05 ready",
            "it ended with exit code 3 without saying why (RSS 1.50 GiB)",
        ),
        (0, READY, "it left with exit code 0: somebody asked it to"),
        (None, "ERROR gone", "ERROR gone"),
    ],
)
def test_the_reason_in_plain_words(exit_code, words, reason):
    assert reason_of(exit_code, 3 << 29, words) == reason


def test_one_whose_exit_code_somebody_else_was_told_is_not_described_by_its_last_line():
    assert reason_of(None, 3 << 20, READY).startswith("it ended without saying why (RSS 3 MiB)")


@pytest.mark.parametrize(
    ("exit_code", "starved", "fate"),
    [
        (-9, False, Fate.KILLED),
        (-9, True, Fate.OUT_OF_MEMORY),
        (None, True, Fate.OUT_OF_MEMORY),
        (None, False, Fate.UNKNOWN),
        (-11, True, Fate.CRASHED),
        (1, False, Fate.CRASHED),
        (-15, False, Fate.KILLED),
    ],
)
def test_what_an_end_says_about_the_requests(exit_code, starved, fate):
    assert fate_of(exit_code, starved=starved) is fate


@pytest.mark.parametrize(
    ("number", "says", "fate"),
    [
        (signal.SIGKILL, "killed by signal 9, probably out of memory (RSS ", Fate.KILLED),
        (signal.SIGSEGV, "crashed: ", Fate.CRASHED),
    ],
)
def test_a_process_that_was_ended_by_a_signal(tmp_path, number, says, fate):
    command = (sys.executable, "-c", f"import time; print({READY!r}, flush=True); time.sleep(60)")
    instance = ProcessLauncher(tmp_path, command).launch(spec(tmp_path))
    while instance.use().resident < 1 << 20:
        time.sleep(0.02)
    os.kill(instance.pid, number)
    while instance.alive():
        time.sleep(0.02)
    assert instance.ending().reason.startswith(says)
    assert instance.ending().fate is fate
    assert instance.use().resident == 0


def test_one_whose_first_thread_ends_first_is_waited_for(tmp_path):
    """As a killed process of many threads and much memory is seen for a moment."""
    ends = "import ctypes, threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\nctypes.CDLL(None)"
    command = (sys.executable, "-c", f"{ends}.syscall({93 if platform.machine() == 'aarch64' else 60}, 0)")
    instance = ProcessLauncher(tmp_path, command).launch(spec(tmp_path))
    while psutil.Process(instance.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.02)
    assert instance.alive()
    os.kill(instance.pid, signal.SIGKILL)
    while instance.alive():
        time.sleep(0.02)
    assert instance.ending().fate is Fate.KILLED
    assert not psutil.pid_exists(instance.pid)


def test_what_a_process_takes_and_whether_it_is_held(tmp_path):
    command = (sys.executable, "-c", "kept = bytearray(64 << 20)\nwhile True: pass")
    instance = ProcessLauncher(tmp_path, command).launch(spec(tmp_path))
    try:
        while instance.use().private < 64 << 20 or not instance.use().processor:
            time.sleep(0.02)
        assert not instance.use().stopped
        os.kill(instance.pid, signal.SIGSTOP)
        while not instance.use().stopped:
            time.sleep(0.02)
        before = instance.use().processor
        time.sleep(0.1)
        assert instance.use().processor == before
    finally:
        instance.terminate(0.1)


def test_one_that_the_kernel_ends_for_want_of_memory(tmp_path):
    with own_group("memory", limit_in_bytes=64 << 20) as group:
        eats = "import time\nkept = [bytearray(8 << 20) for _ in range(64)]\ntime.sleep(60)"
        command = (sys.executable, *within([group], "-c", eats))
        instance = ProcessLauncher(tmp_path, command).launch(spec(tmp_path))
        while instance.alive():
            instance.use()
        assert instance.ending().reason.startswith("killed by signal 9, probably out of memory (RSS ")
        assert instance.ending().fate is Fate.OUT_OF_MEMORY
