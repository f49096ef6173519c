"""Running the unmodified official clients against a server."""

import json
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
NODE = Path(__file__).parent / "node"
VERSIONS = ("2.17", "2.42")


def environment(url: str, key: str, home: Path) -> dict[str, str]:
    """Nothing of the machine's own configuration, no telemetry, no version check."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "TOGETHER_API_KEY": key,
        "TOGETHER_BASE_URL": f"{url}/v1",
        "TOGETHER_TELEMETRY_DISABLED": "1",
        "TOGETHER_DISABLE_VERSION_CHECK": "1",
        "CI": "1",
        "COLUMNS": "200",
        "NO_COLOR": "1",
    }


def python_client(version: str, script: str, env: dict[str, str]):
    """Run `script` under that version of `together`; what it prints last is JSON."""
    command = [str(ROOT / ".venvs" / f"together-{version}" / "bin" / "python"), "-c", script]
    return _json(subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False))


def node_client(script: str, env: dict[str, str]):
    command = ["node", "--input-type=module", "-e", f"import Together from 'together-ai';\n{script}"]
    return _json(subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False, cwd=NODE))


def command_line(version: str, arguments: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    tool = ROOT / ".venvs" / f"together-{version}" / "bin" / "together"
    return subprocess.run([str(tool), *arguments], env=env, capture_output=True, text=True, timeout=120, check=False)


def _json(result: subprocess.CompletedProcess[str]):
    assert result.returncode == 0, result.stderr + result.stdout
    return json.loads(result.stdout.strip().splitlines()[-1])
