import os
import subprocess
import sys

import pytest

from tests.servers import KEY


@pytest.fixture
def run(server, tmp_path):
    def call(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "LORADOCK_BASE_URL": server.url, "LORADOCK_API_KEY": KEY, "COLUMNS": "160"}
        environment |= {"LORADOCK_DATA_DIR": str(tmp_path), **variables}
        command = [sys.executable, "-m", "loradock.cli.main", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)

    return call
