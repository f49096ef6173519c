"""Limits of control groups: as files of a made-up machine, and as this machine's kernel keeps them."""

import os
import subprocess
import sys

import psutil
import pytest

from loradock.machine import share
from loradock.machine.cgroups import GroupLimits, group_limits, out_of_memory_kills
from loradock.machine.share import memory_free, memory_total, usable_processors
from tests.groups import own_group, within
from tests.machine.trees import tree, version_1, version_2

MIB = 2**20
NO_LIMIT_V1 = str(2**63 - 4096)


def test_no_groups_no_limits(tmp_path):
    assert group_limits(tmp_path) == GroupLimits()
    assert group_limits(tree(tmp_path, "", "", {})) == GroupLimits()


def test_version_2_without_limits(tmp_path):
    root = version_2(tmp_path, "/a", {"a/memory.max": "max", "a/memory.current": "9", "a/cpu.max": "max 100000"})
    assert group_limits(root) == GroupLimits()
    assert memory_total(root) == psutil.virtual_memory().total


def test_version_2_in_a_container_sees_its_own_group_at_the_top(tmp_path):
    files = {
        "memory.max": str(1024 * MIB),
        "memory.current": str(900 * MIB),
        "memory.stat": f"anon {100 * MIB}\ninactive_file {600 * MIB}\nactive_file {100 * MIB}",
        "cpu.max": "150000 100000",
    }
    assert group_limits(version_2(tmp_path, "/", files)) == GroupLimits(1024 * MIB, 824 * MIB, 1.5)


def test_the_tightest_of_nested_groups_holds_for_each_limit(tmp_path):
    files = {
        "memory.max": "max",
        "pod/memory.max": str(500 * MIB),
        "pod/memory.current": str(450 * MIB),
        "pod/app/memory.max": str(800 * MIB),
        "pod/app/memory.high": str(700 * MIB),
        "pod/app/memory.current": str(100 * MIB),
        "pod/cpu.max": "max 100000",
        "pod/app/cpu.max": "300000 100000",
    }
    assert group_limits(version_2(tmp_path, "/pod/app", files)) == GroupLimits(500 * MIB, 50 * MIB, 3.0)


def test_a_soft_limit_of_version_2_is_one(tmp_path):
    files = {"a/memory.max": "max", "a/memory.high": str(64 * MIB), "a/memory.current": "0"}
    assert group_limits(version_2(tmp_path, "/a", files)).memory == 64 * MIB


def test_version_1(tmp_path):
    files = {
        "memory/memory.limit_in_bytes": NO_LIMIT_V1,
        "memory/a/memory.limit_in_bytes": str(256 * MIB),
        "memory/a/memory.usage_in_bytes": str(250 * MIB),
        "memory/a/memory.stat": f"inactive_file 1\ntotal_inactive_file {50 * MIB}",
        "cpu/cpu.cfs_quota_us": "-1",
        "cpu/cpu.cfs_period_us": "100000",
        "cpu/a/cpu.cfs_quota_us": "50000",
        "cpu/a/cpu.cfs_period_us": "100000",
    }
    assert group_limits(version_1(tmp_path, "/a", files)) == GroupLimits(256 * MIB, 56 * MIB, 0.5)


def test_version_1_in_a_container_tells_of_the_groups_around(tmp_path):
    files = {
        "memory/memory.limit_in_bytes": NO_LIMIT_V1,
        "memory/memory.usage_in_bytes": str(10 * MIB),
        "memory/memory.stat": f"hierarchical_memory_limit {100 * MIB}\ntotal_inactive_file {4 * MIB}",
        "cpu/cpu.cfs_quota_us": "200000",
        "cpu/cpu.cfs_period_us": "100000",
    }
    root = version_1(tmp_path, "/docker/abc", files, top="/docker/abc")
    assert group_limits(root) == GroupLimits(100 * MIB, 94 * MIB, 2.0)


@pytest.mark.parametrize("path", ["/../..", "/elsewhere"])
def test_a_group_that_cannot_be_seen_is_taken_for_the_one_that_can(tmp_path, path):
    files = {"memory.max": str(MIB), "memory.current": "0"}
    assert group_limits(version_2(tmp_path, path, files, top="/docker/abc")).memory == MIB


@pytest.mark.parametrize(("quota", "threads"), [("10000 100000", 1), ("199999 100000", 1), ("max 100000", None)])
def test_threads_are_the_quota_rounded_down_and_at_least_one(tmp_path, quota, threads):
    root = version_2(tmp_path, "/", {"cpu.max": quota})
    assert usable_processors(root) == (threads or len(os.sched_getaffinity(0)))


def test_threads_are_not_more_than_the_processors_that_may_be_used(tmp_path):
    root = version_2(tmp_path, "/", {"cpu.max": "6400000 100000"})
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert usable_processors(root) == 1
    finally:
        os.sched_setaffinity(0, before)


def test_a_full_group_has_nothing_free(tmp_path):
    root = version_2(tmp_path, "/", {"memory.max": str(MIB), "memory.current": str(2 * MIB)})
    assert (memory_total(root), memory_free(root)) == (MIB, 0)


def test_the_kernel_counts_what_it_ended_for_want_of_memory(tmp_path):
    assert out_of_memory_kills(tree(tmp_path, "", "", {"proc/vmstat": "pgfault 7\noom_kill 3"})) == 3
    assert out_of_memory_kills(tmp_path / "none") is None


SAY = """
from loradock.machine.share import memory_free, memory_total, usable_processors
print(memory_total(), memory_free(), usable_processors())
"""


def test_the_limits_of_this_machines_kernel():
    with own_group("memory", limit_in_bytes=512 * MIB) as memory, own_group("cpu", cfs_quota_us=150_000) as cpu:
        command = [sys.executable, *within([memory, cpu], "-c", SAY)]
        told = subprocess.run(command, capture_output=True, text=True, check=True)
    total, free, processors = map(int, told.stdout.split())
    assert total == 512 * MIB
    assert 300 * MIB < free < total
    assert processors == 1


def test_memory_is_what_psutil_says_where_the_kernel_does_not_tell(monkeypatch, tmp_path):
    told = memory_total(tmp_path), memory_free(tmp_path)
    monkeypatch.setattr(share, "_MEMORY", tmp_path / "none")
    assert memory_total(tmp_path) == told[0]
    assert memory_free(tmp_path) == pytest.approx(told[1], rel=0.2)
