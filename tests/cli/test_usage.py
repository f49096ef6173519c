"""Wrong commands, wrong places, wrong servers: one readable error, JSON where asked, exit status 2 for wrong usage and
1 for what cannot be carried out, never a traceback."""

import json
import os
import pty
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from loradock.cli.commands.sending import local_files
from loradock.types.enums import ModelKind
from tests.servers import EXAMPLES, KEY, create_endpoint

KEY_TOO_SHORT = ["serve", "--bootstrap-key", "abcde"]
MISSING = {
    "no data folder": (["keys", "list", "--data-dir", "/dev/null/x"], "/dev/null/x"),
    "a missing folder": (["models", "upload", "a", "./my-adaptr"], "./my-adaptr"),
    "a missing folder by name": (["models", "upload", "a", "my-adaptr"], "my-adaptr"),
    "a missing absolute path": (["models", "upload", "a", "/x/y"], "/x/y"),
    "a missing archive": (["models", "upload", "a", "weights/my.tar.gz"], "weights/my.tar.gz"),
}
WRONG = {
    "no such command": (["bogus"], "bogus"),
    "no command": ([], "loradock"),
    "no command in a group": (["endpoints"], "adapters"),
    "no such option": (["endpoints", "list", "--bogus"], "--bogus"),
    "an argument is missing": (["endpoints", "create"], "model"),
    "a number is none": (["endpoints", "create", "x", "--min-replicas", "abc"], "--min-replicas"),
    "no such kind": (["models", "upload", "a", "b/c", "--type", "foo"], "adapter"),
    "no URL": (["endpoints", "list", "--base-url", "notaurl"], "--base-url"),
    "half a URL": (["endpoints", "list", "--base-url", "http://[::1"], "--base-url"),
    "another protocol": (["endpoints", "list", "--base-url", "ftp://x"], "--base-url"),
    "no port": (["serve", "--port", "70000"], "--port"),
    "no such quantization": (["serve", "--quantization", "int2"], "--quantization"),
    "half a flag": (["serve", "--vllm-args", "'a"], "--vllm-args"),
    "half a flag for the engine": (["serve", "--engine-args", "'a"], "--engine-args"),
    "no flag of the engine": (["serve", "--engine-args", "--fast 1"], "--fast"),
    "no number for the engine": (["serve", "--engine-args", "--max-waiting=x"], "--max-waiting"),
    "a flag that is the server's": (["serve", "--engine-args", "--port=1"], "--port is set by the server"),
    "no import root": (["serve", "--import-root", "/no/folder"], "--import-root /no/folder does not exist"),
    "an import root that is a file": (["serve", "--import-root", "/etc/passwd"], "is not a folder"),
    "no python": (["serve", "--vllm-python", "/no/python"], "--vllm-python /no/python"),
    "no python at all": (["serve", "--vllm-python", "/bin/true"], "is not a Python"),
    "a python without vLLM": (["serve", "--vllm-python", sys.executable], "has no vLLM"),
    "a key that can be guessed": (KEY_TOO_SHORT, "--bootstrap-key needs at least 16"),
    "no log level": (["serve", "--log-level", "loud"], "--log-level"),
}


@pytest.mark.parametrize(
    ("arguments", "said", "status"),
    [(*case, 2) for case in WRONG.values()] + [(*case, 1) for case in MISSING.values()],
    ids=[*WRONG, *MISSING],
)
def test_a_wrong_command_is_one_readable_error(run, arguments, said, status):
    for flags in ([], ["--json"]):
        result = run(*arguments, *flags)
        assert result.returncode == status
        assert "Traceback" not in result.stderr
        if flags and arguments[:1] != ["serve"]:
            assert json.loads(result.stdout)["error"]["type"] == "invalid_request_error"
        elif not flags:
            assert said in result.stderr + result.stdout


def test_a_data_folder_with_a_broken_database_is_said(run, tmp_path):
    (tmp_path / "loradock.db").write_bytes(b"no database" * 1000)
    result = run("keys", "list")
    assert (result.returncode, "Traceback" in result.stderr) == (1, False)
    assert str(tmp_path) in result.stderr


def test_json_that_is_not_ours_is_told_apart(run):
    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"status": "fine"}' if "endpoints" in self.path else b"[1]")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=lambda: [other.handle_request() for _ in range(2)]).start()
        for command in (["endpoints", "list"], ["models", "list"]):
            refused = run(*command, LORADOCK_BASE_URL=f"http://127.0.0.1:{other.server_port}")
            assert refused.returncode == 1
            assert "not as Loradock does" in refused.stderr
            assert "Traceback" not in refused.stderr


def test_help_waits_for_nothing_heavy():
    heavy = ("httpx", "torch", "numpy", "sqlalchemy", "fastapi", "pydantic", "httpcore", "gguf")
    code = f"import sys, loradock.cli.main; print([name for name in {heavy} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


def test_an_endpoint_goes_by_its_display_name_where_only_one_has_it(run, http):
    first = create_endpoint(http, state="STOPPED", display_name="my chat")
    assert json.loads(run("endpoints", "retrieve", "my chat", "--json").stdout)["id"] == first["id"]
    assert json.loads(run("endpoints", "adapters", "list", "my chat", "--json").stdout)["data"] == []
    second = create_endpoint(http, state="STOPPED", display_name="my chat")
    both = run("endpoints", "stop", "my chat")
    assert both.returncode == 1
    assert first["id"] in both.stderr
    assert second["id"] in both.stderr
    assert run("endpoints", "retrieve", "no chat").stderr == "Error: No endpoint with this id exists\n"
    for endpoint in (first, second):
        assert run("endpoints", "delete", endpoint["id"]).returncode == 0


def test_an_upload_shows_its_bytes(server, tmp_path):
    ours, theirs = pty.openpty()
    environment = {**os.environ, "LORADOCK_BASE_URL": server.url, "LORADOCK_API_KEY": KEY, "TERM": "xterm"}
    command = [sys.executable, "-m", "loradock.cli.main", "models", "upload", "with-bytes", str(EXAMPLES / "pirate")]
    with subprocess.Popen(command, env=environment, stdout=theirs, stderr=theirs, close_fds=True):
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 1 << 16)
            except OSError:  # the other end is closed
                break
    os.close(ours)
    assert b"1.9/1.9 MB" in shown
    assert b"is ready" in shown


def test_of_a_folder_only_what_a_model_needs_is_sent(tmp_path):
    for name in ("adapter_config.json", "adapter_model.safetensors", "README.md", "optimizer.pt"):
        (tmp_path / name).write_bytes(b"x")
    found = local_files(str(tmp_path), ModelKind.ADAPTER)
    assert sorted(found) == ["adapter_config.json", "adapter_model.safetensors"]
    assert local_files("org/name@refs/pr/1", ModelKind.ADAPTER) is None
