"""What a new user types first: the version, help, completion, and commands that find the server by themselves."""

import os
import re
import shlex
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from loradock import __version__
from loradock.cli.main import app
from loradock.configuration.address import local_url, recorded, recorded_url
from tests.servers import EXAMPLES


def command(*arguments, folder, **variables):
    hidden = ("LORADOCK_BASE_URL", "LORADOCK_PORT", "LORADOCK_HOST", "LORADOCK_API_KEY", "LORADOCK_DATA_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"HOME": str(folder), "COLUMNS": "120", **variables}
    program = [sys.executable, "-m", "loradock.cli.main", *arguments]
    return subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server on a port and a data folder that are not the usual ones: (its folder, what it printed)."""
    folder = tmp_path_factory.mktemp("elsewhere")
    data, log = folder / "data of mine", folder / "serve.log"
    arguments = [sys.executable, "-m", "loradock.cli.main", "serve", "--port", "0", "--data-dir", str(data)]
    with log.open("wb") as output:
        process = subprocess.Popen([*arguments, "--host", "0.0.0.0"], stdout=output, stderr=output)
    deadline = time.monotonic() + 60
    while "adapters attach" not in log.read_text() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    yield data, log.read_text()
    process.terminate()
    process.wait(timeout=60)


def test_version_and_help(tmp_path):
    for flag in ("--version", "-V"):
        assert command(flag, folder=tmp_path).stdout == f"loradock {__version__}\n"
    for arguments in ([], ["endpoints"], ["endpoints", "adapters", "add"]):
        assert (
            command(*arguments, "-h", folder=tmp_path).stdout == command(*arguments, "--help", folder=tmp_path).stdout
        )
    assert command("endpoints", "list", "-h", folder=tmp_path).returncode == 0


def test_before_any_server_was_started_it_is_said_to_start_one(tmp_path):
    told = command("endpoints", "list", folder=tmp_path)
    assert told.returncode == 1
    assert re.search(r"no API key: there is no .*bootstrap-key\. Start a server.*loradock\S* serve", told.stderr)


@pytest.mark.parametrize("group", ["", "endpoints", "endpoints adapters", "models", "jobs", "keys"])
def test_lists_of_commands_are_whole_at_80_columns(group):
    shown = CliRunner().invoke(app, [*group.split(), "-h"], terminal_width=80)
    commands = shown.stdout.partition("Commands:")[2].splitlines()
    assert len(commands) > 2
    assert [line for line in commands if line.endswith("...")] == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(tmp_path, shell):
    script = command("completion", shell, folder=tmp_path)
    assert (script.returncode, "_LORADOCK_COMPLETE" in script.stdout) == (0, True)


def test_bash_completes_commands_and_options(tmp_path):
    program = tmp_path / "loradock"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m loradock.cli.main "$@"\n')
    program.chmod(0o755)

    def completed(*words: str) -> list[str]:
        ask = 'eval "$(loradock completion bash)"; COMP_WORDS=("$@"); COMP_CWORD=$(($#-1));'
        ask += " _loradock_completion loradock;"
        result = subprocess.run(
            ["bash", "-c", f"{ask} printf '%s\\n' \"${{COMPREPLY[@]}}\"", "bash", *words],
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=True,
        )
        return result.stdout.split()

    assert completed("loradock", "endp") == ["endpoints"]
    assert "--data-dir" in completed("loradock", "endpoints", "list", "--d")


def test_commands_find_the_server_of_a_data_folder(served, tmp_path):
    data, _ = served
    for arguments, variables in (
        (["--data-dir", str(data)], {}),
        ([], {"LORADOCK_DATA_DIR": str(data)}),
        (["--data-dir", str(data)], {"LORADOCK_PORT": "9", "LORADOCK_BASE_URL": "http://127.0.0.1:9"}),
        ([], {"LORADOCK_DATA_DIR": str(data), "LORADOCK_PORT": recorded_url(data).rpartition(":")[2]}),
        ([], {"LORADOCK_DATA_DIR": str(data), "LORADOCK_PORT": "0", "LORADOCK_HOST": "0.0.0.0"}),
    ):
        listed = command("models", "list", *arguments, folder=tmp_path, **variables)
        assert (listed.returncode, "SmolLM2" in listed.stdout) == (0, True), listed.stderr


def test_the_port_variable_leads_somewhere_else(served, tmp_path):
    refused = command("models", "list", folder=tmp_path, LORADOCK_DATA_DIR=str(served[0]), LORADOCK_PORT="9")
    assert (refused.returncode, "http://127.0.0.1:9 " in refused.stderr) == (1, True)
    wrong = command("models", "list", folder=tmp_path, LORADOCK_DATA_DIR=str(served[0]), LORADOCK_PORT="http")
    assert (wrong.returncode, "LORADOCK_PORT" in wrong.stderr) == (2, True)


def test_the_commands_of_the_banner_work_as_they_stand(served, tmp_path):
    data, printed = served
    assert "Warning: --host 0.0.0.0 serves plain HTTP to other machines" in " ".join(printed.split())
    assert ":0/" not in printed and "0.0.0.0:" not in printed
    (tmp_path / "my-adapter").symlink_to(EXAMPLES / "pirate")
    lines = [line.strip() for line in printed.partition("Next")[2].splitlines() if line.startswith("  ")]
    assert len(lines) == 3
    for line in lines:
        environment = {**os.environ, "HOME": str(tmp_path)}
        ended = subprocess.run(
            ["bash", "-c", line],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert ended.returncode == 0, line + ended.stdout + ended.stderr
    name = re.search(r"local/my-adapter", ended.stdout).group()
    asked = command("endpoints", "adapters", "list", "chat", "--data-dir", str(data), folder=tmp_path)
    assert name in asked.stdout


def test_the_record_lives_as_long_as_the_server(tmp_path):
    with recorded(tmp_path, "http://127.0.0.1:1"):
        assert recorded_url(tmp_path) == "http://127.0.0.1:1"
    assert recorded_url(tmp_path) is None
    for nonsense in ("{", "[]", '{"url": 1}', "null"):
        (tmp_path / "server.json").write_text(nonsense)
        assert recorded_url(tmp_path) is None


def test_an_address_for_this_machine():
    assert local_url("0.0.0.0", 1) == local_url("", 1) == "http://127.0.0.1:1"
    assert local_url("::", 1) == "http://[::1]:1"
    assert local_url("gpu-1", 1) == "http://gpu-1:1"
