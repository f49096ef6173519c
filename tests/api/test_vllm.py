"""What a server that can start vLLM makes of a base model that only the embedded engine reads."""

from pathlib import Path

import pytest

from tests.servers import BASE, RunningServer


@pytest.fixture(scope="module")
def http(tmp_path_factory):
    """The built-in base model is a GGUF file."""
    root: Path = tmp_path_factory.mktemp("vllm")
    python = root / "python"
    python.write_text("#!/bin/sh\necho has vllm\n")
    python.chmod(0o755)
    server = RunningServer(root / "data", flags=("--vllm-python", str(python))).start()
    try:
        with server.client() as http:
            yield http
    finally:
        server.stop()


def create(http, **fields):
    body = {"model": BASE, "autoscaling": {"min_replicas": 1, "max_replicas": 1}, "state": "STOPPED", **fields}
    return http.post("/v1/endpoints", json=body)


def test_a_gguf_file_runs_on_the_embedded_engine(http):
    made = create(http, hardware="")
    assert (made.status_code, made.json()["engine"]) == (200, "embedded")


def test_a_gguf_file_on_vllm_is_refused_with_a_way_out(http):
    answer = create(http, hardware="", engine="vllm")
    assert answer.status_code == 400
    assert "GGUF" in answer.json()["message"]
    assert "leave engine out" in answer.json()["message"]
