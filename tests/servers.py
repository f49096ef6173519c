"""A real Loradock server for the tests: a process on a free port with a data folder of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests import answers

BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
EXAMPLES = Path(__file__).parent.parent / "examples" / "adapters"
KEY = "ld-test-key-of-the-first-account"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class RunningServer:
    """Start, stop, kill; `http` speaks to it as the bootstrap account."""

    data_dir: Path
    port: int = field(default_factory=free_port)
    flags: tuple[str, ...] = ()
    process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "RunningServer":
        command = [sys.executable, "-m", "loradock.cli.main", "serve", "--data-dir", str(self.data_dir)]
        environment = {**os.environ, "LORADOCK_BOOTSTRAP_KEY": KEY, "LORADOCK_BOOTSTRAP_ACCOUNT": "tester"}
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with (self.data_dir / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port), *self.flags], stdout=log, stderr=log, env=environment
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/health").status_code == 200:
                    return self
            except httpx.TransportError:
                time.sleep(0.05)
        raise RuntimeError(f"the server did not start:\n{self.log()}")

    def log(self) -> str:
        return (self.data_dir / "server.log").read_text()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)

    def client(self, key: str = KEY) -> httpx.Client:
        headers, hooks = {"Authorization": f"Bearer {key}"}, {"response": [answers.check]}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120, event_hooks=hooks)

    def make_key(self, account: str) -> str:
        command = [sys.executable, "-m", "loradock.cli.main", "keys", "create", "--account", account, "--json"]
        result = subprocess.run(
            [*command, "--data-dir", str(self.data_dir)], capture_output=True, text=True, check=True
        )
        return httpx.Response(200, text=result.stdout).json()["key"]


def create_endpoint(http: httpx.Client, **extra) -> dict:
    body = {"model": BASE, "hardware": "", "autoscaling": {"min_replicas": 1, "max_replicas": 1}, **extra}
    response = http.post("/v1/endpoints", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def wait_state(http: httpx.Client, endpoint_id: str, state: str, seconds: float = 120) -> dict:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        endpoint = http.get(f"/v1/endpoints/{endpoint_id}").json()
        if endpoint["state"] == state:
            return endpoint
        assert endpoint["state"] != "ERROR", endpoint["message"]
        time.sleep(0.1)
    raise AssertionError(f"still {endpoint['state']}: {endpoint['message']}")


def upload(http: httpx.Client, name: str, folder: Path | None = None, **fields) -> dict:
    """Upload a folder as multipart and wait; returns the finished job."""
    folder = folder or EXAMPLES / name
    files = [("files", (file.name, file.read_bytes())) for file in sorted(folder.iterdir())]
    response = http.post("/v1/models/upload", data={"model_name": name, **fields}, files=files)
    assert response.status_code == 200, response.text
    return wait_job(http, response.json()["data"]["job_id"])


def wait_job(http: httpx.Client, job_id: str) -> dict:
    for _ in range(600):
        job = http.get(f"/v1/jobs/{job_id}").json()
        if job["status"] in ("Complete", "Failed"):
            return job
        time.sleep(0.05)
    raise AssertionError(f"job {job_id} does not end")


def ask(http: httpx.Client, model: str, question: str = "Tell me about rain.", max_tokens: int = 24) -> str:
    messages = [{"role": "user", "content": question}]
    body = {"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": 0}
    response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"]
