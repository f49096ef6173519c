"""The server, its pages and the command line need nothing of the engine's."""

import json
import os
import platform
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import httpx
import pytest

from loradock.cli.commands.demo import ADAPTERS

ROOT = Path(__file__).parent.parent
NOT_INSTALLED = "torch", "tokenizers", "llguidance", "safetensors"
BLOCKED = f"import sys; sys.modules.update(dict.fromkeys({NOT_INSTALLED!r}))\n"
IMPORT_ALL = """
import importlib, pkgutil
import loradock
for module in pkgutil.walk_packages(loradock.__path__, "loradock."):
    if not module.name.startswith(("loradock.engine", "loradock.replicas.vllm_shim", "loradock.store.migrations")):
        importlib.import_module(module.name)
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", BLOCKED + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_everything_else_is_imported_without_the_engines_packages():
    done = run(IMPORT_ALL)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [["demo"], ["engine", "--model", "x"]])
def test_what_needs_the_engine_says_what_to_install(arguments):
    done = run("from loradock.cli.main import main; main()", *arguments)
    assert done.returncode == 1
    assert 'pip install "loradock[engine]"' in done.stderr


def test_what_would_run_on_it_is_a_bad_request():
    code = """
from loradock.types.errors import EngineNotInstalled
from loradock.types.extras import has_engine, require_engine
assert not has_engine()
try:
    require_engine("engine")
except EngineNotInstalled as error:
    print(error.status, error.param, error.message)
"""
    assert run(code).stdout.startswith("400 engine the built-in engine is not installed on this machine")


@pytest.mark.slow
def test_the_wheel_alone_serves_pages_and_api(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so"))
    shutil.copytree(ROOT / "native", source / "native", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def pip(*arguments: str | Path) -> None:
        subprocess.run([python, "-m", "pip", "--quiet", *arguments], check=True, cwd=tmp_path, env=environment)

    pip("wheel", "--no-deps", "--wheel-dir", tmp_path, source)
    wheel = next(tmp_path.glob("loradock-*.whl"))
    with zipfile.ZipFile(wheel) as files:
        names = files.namelist()
    assert "loradock/engine/kernels/native.so" in names
    if platform.system() == "Linux" and "CC" not in os.environ:
        assert wheel.name.endswith(f"-py3-none-manylinux_2_28_{platform.machine()}.whl")
    packed = {name for name in names if name.endswith("adapter_model.safetensors")}
    assert packed == {f"loradock/examples/adapters/{name}/adapter_model.safetensors" for name in ADAPTERS}
    pip("install", wheel)
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "json"], capture_output=True, check=True, env=environment
    )
    assert not {package["name"] for package in json.loads(listed.stdout)} & set(NOT_INSTALLED)
    port_file, key = tmp_path / "data", "sk-loradock-of-the-wheel-test"
    command = [python.with_name("loradock"), "serve", "--port", "0", "--data-dir", port_file, "--bootstrap-key", key]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as server:
        try:
            said = []
            while not any("Next, in another" in line for line in said):
                said.append(server.stdout.readline())
                assert said[-1], said
            assert any('pip install "loradock[engine]"' in line for line in said), said
            url = next(word for line in said for word in line.split() if word.startswith("http")).rstrip(",")
            url = url.removesuffix("/v1")
            with httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}) as http:
                assert http.get("/health").status_code == 200
                assert http.get("/v1/models").status_code == 200
                refused = http.post("/v1/endpoints", json={"model": "HuggingFaceTB/SmolLM2-135M-Instruct"})
                assert refused.status_code == 400
                assert "</form>" in http.get("/ui/sign-in", headers={"accept": "text/html"}).text
                assert "openapi" in http.get("/openapi.json").json()
        finally:
            server.terminate()
