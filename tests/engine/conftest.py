import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest

from tests.engine import tiny

SECRET = "replica-secret"


@dataclass
class RunningEngine:
    folder: Path
    process: subprocess.Popen
    url: str

    @property
    def log(self) -> str:
        return (self.folder / "engine.log").read_text()

    @property
    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {SECRET}"}, timeout=60)

    def metric(self, name: str) -> float:
        with self.http as http:
            lines = http.get("/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith(f"loradock_{name} ")).split()[1])

    def wait_metric(self, name: str, value: float) -> None:
        """Fails the test when the metric never gets there."""
        deadline = time.monotonic() + 20
        while (seen := self.metric(name)) != value:
            assert time.monotonic() < deadline, f"{name} stays at {seen}, not {value}"
            time.sleep(0.02)


def launch(folder: Path, model: Path, *flags: str) -> RunningEngine:
    """Start an engine; returns as soon as it listens (it may still be loading)."""
    folder.mkdir(parents=True, exist_ok=True)
    announce = folder / "announce.json"
    command = [sys.executable, "-m", "loradock.engine", "--model", str(model), "--served-model-name", "base", "alias"]
    environment = {**os.environ, "LORADOCK_ENGINE_SECRET": SECRET, "OMP_NUM_THREADS": "2"}
    with (folder / "engine.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--announce", str(announce), *flags], stderr=log, stdout=log, env=environment
        )
    port = None
    while port is None and process.poll() is None:
        port = json.loads(announce.read_text()).get("port") if announce.exists() else None
        time.sleep(0.02)
    return RunningEngine(folder, process, f"http://127.0.0.1:{port}")


def wait_ready(engine: RunningEngine) -> RunningEngine:
    while engine.process.poll() is None:
        if httpx.get(f"{engine.url}/health", timeout=30).status_code == 200:
            return engine
        time.sleep(0.05)
    raise RuntimeError(engine.log)


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory):
    return tiny.save_base(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def adapters(tmp_path_factory, base_folder):
    """Name → folder of three adapters of different rank."""
    root = tmp_path_factory.mktemp("adapters")
    return {f"a{n}": tiny.save_adapter(root / f"a{n}", base_folder, seed=n, rank=2 * n) for n in (1, 2, 3)}


@pytest.fixture(scope="session")
def engine(tmp_path_factory, base_folder, adapters):
    """One float32 engine with the adapters loaded, little room, and small steps."""
    running = wait_ready(
        launch(
            tmp_path_factory.mktemp("engine"),
            base_folder,
            *("--dtype", "float32", "--max-num-seqs", "8", "--max-step-tokens", "64"),
            *("--max-loras", "4", "--max-lora-rank", "8", "--kv-cache-gib", "0.0005"),
        )
    )
    with running.http as http:
        for name, path in adapters.items():
            answer = http.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": str(path)})
            assert answer.status_code == 200, answer.text
    yield running
    running.process.terminate()
    assert running.process.wait(timeout=20) == 0


@pytest.fixture
def client(engine):
    with openai.OpenAI(base_url=f"{engine.url}/v1", api_key=SECRET, max_retries=0) as client:
        yield client


@pytest.fixture
def http(engine):
    with engine.http as http:
        yield http
