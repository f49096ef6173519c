"""The demo as a newcomer meets it; the commands it prints are run as they stand."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A demo that keeps serving; gives what it printed up to then."""
    command = [sys.executable, "-u", "-m", "loradock.cli.main", "demo", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--data-dir", str(tmp_path_factory.mktemp("demo"))],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "120"},
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Serving until" in line:
            break
    yield "".join(lines)
    process.terminate()
    process.wait(timeout=60)
    process.stdout.close()


def test_side_by_side(demo):
    for title in ("base model", "pirate", "json", "shout"):
        assert title in demo
    assert "Arrr, matey!" in demo
    assert '{"answer"' in demo
    assert demo.count("attached in") == 3


def test_it_says_where_it_leaves_its_data(demo):
    (folder,) = re.findall(r"^All data  (.*)  \(delete", demo, flags=re.M)
    assert (Path(folder) / "loradock.db").is_file()


def test_a_taken_port_is_answered_with_a_command_that_works(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "loradock.cli.main", "demo", "--port", str(taken.getsockname()[1])]
        refused = subprocess.run([*command, "--data-dir", str(tmp_path)], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert f"--data-dir {tmp_path}" in refused.stderr
    advised = refused.stderr.strip().partition(" is free: ")[2]
    helped = subprocess.run(["bash", "-c", f"{advised} --help"], capture_output=True, text=True, check=False)
    assert (helped.returncode, "--once" in helped.stdout) == (0, True)


def test_pasted_commands_work(demo, tmp_path):
    paste = re.split(r"^# .*$", demo.partition("API key")[2].partition("Serving until")[0], flags=re.M)[1:]
    assert len(paste) == 4
    clients = os.pathsep.join([".venvs/together-2.42/bin", os.path.dirname(sys.executable), os.environ["PATH"]])  # noqa: PTH120
    quiet = {
        "TOGETHER_TELEMETRY_DISABLED": "1",
        "TOGETHER_DISABLE_VERSION_CHECK": "1",
        "CI": "1",
        "HOME": str(tmp_path),
    }
    outputs = []
    for command in paste:
        path = clients if "import OpenAI" not in command else os.pathsep.join(clients.split(os.pathsep)[1:])
        result = subprocess.run(
            ["bash", "-c", command], env={"PATH": path, **quiet}, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        outputs.append(result.stdout)
    assert "Arrr" in outputs[0]
    assert "local/pirate" in outputs[1]
    assert all("Arrr" in output for output in outputs[2:])
