"""A start that fails after the data folder was found good."""

import shutil
import subprocess
import sys
from contextlib import suppress

import psutil

from tests.servers import RunningServer
from tests.small_disk import small_disk


def test_a_full_disk_without_its_reserve_is_one_line(tmp_path):
    with small_disk(tmp_path / "disk", 16) as disk:
        server = RunningServer(disk.folder / "data").start()
        with server.client() as http:
            endpoint = {"model": "HuggingFaceTB/SmolLM2-135M-Instruct", "hardware": ""}
            assert http.post("/v1/endpoints", json=endpoint).status_code == 200
        server.kill()
        shutil.rmtree(server.data_dir / "reserve", ignore_errors=True)
        disk.fill()
        command = [
            sys.executable,
            "-m",
            "loradock.cli.main",
            "serve",
            "--port",
            "0",
            "--data-dir",
            str(server.data_dir),
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert result.returncode == 1
        assert "full" in result.stderr
        assert "Traceback" not in result.stderr
        for process in psutil.process_iter():
            if any(str(server.data_dir) in word for word in _command(process)):
                process.kill()


def _command(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []
