"""Server and engine in a control group of 1 GiB and one processor, on a machine that has more of both."""

import contextlib
import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.groups import own_group, within
from tests.servers import KEY, RunningServer, create_endpoint, wait_state

GROUP = 2**30


class GroupedServer(RunningServer):
    """As `RunningServer`, within control groups."""

    def start_within(self, folders) -> "GroupedServer":
        self.data_dir.mkdir(parents=True)
        command = [
            sys.executable,
            *within(folders, "-m", "loradock.cli.main", "serve", "--data-dir", str(self.data_dir)),
        ]
        environment = {**os.environ, "LORADOCK_BOOTSTRAP_KEY": KEY, "LORADOCK_BOOTSTRAP_ACCOUNT": "tester"}
        with (self.data_dir / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port)], stdout=log, stderr=log, env=environment
            )
        for _ in range(600):
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health").status_code == 200:
                    return self
            time.sleep(0.1)
        raise RuntimeError(self.log())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_group_of_one_gibibyte_serves_a_load_that_does_not_fit_its_cache(tmp_path):
    with (
        own_group("memory", limit_in_bytes=GROUP) as memory,
        own_group("cpu", cfs_quota_us=100_000, cfs_period_us=100_000) as cpu,
    ):
        server = GroupedServer(tmp_path / "data").start_within([memory, cpu])
        try:
            with server.client() as http:
                (hardware,) = http.get("/v1/hardware").json()["data"]
                assert hardware["id"] == "1x_cpu_1c_1gb"
                endpoint = create_endpoint(http)
                wait_state(http, endpoint["id"], "STARTED", 300)
                path = f"/v1/endpoints/{endpoint['id']}/replicas"
                (replica,) = http.get(path).json()["data"]
                assert replica["memory"]["planned"] < GROUP
                assert _all_answered(http, endpoint["name"]) == [200] * 16
                assert [row["id"] for row in http.get(path).json()["data"]] == [replica["id"]]
            assert int((memory / "memory.oom_control").read_text().split("oom_kill ")[1].split()[0]) == 0
        finally:
            server.stop()
            _until_empty(memory)


def _all_answered(http, name):
    """16 clients with different prompts of 1,500 tokens."""
    chance = random.Random(1)
    prompts = [[chance.randrange(100, 40_000) for _ in range(1500)] for _ in range(16)]

    def ask(prompt):
        body = {"model": name, "prompt": prompt, "max_tokens": 4, "temperature": 0}
        return http.post("/v1/completions", json=body, timeout=500).status_code

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(ask, prompts))


def _until_empty(folder):
    for _ in range(100):
        if not (folder / "cgroup.procs").read_text().strip():
            return
        time.sleep(0.1)
