"""The architecture, held by the machine: imports go one way and modules stay small (docs/structure.md)."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "loradock"
ALLOWED = {
    "types": set(),
    "machine": set(),
    "checkpoints": {"types"},
    "store": {"types"},
    "registry": {"store", "checkpoints", "types"},
    "endpoints": {"store", "checkpoints", "machine", "types"},
    "replicas": {"store", "checkpoints", "machine", "types"},
    "telemetry": {"store", "types"},
    "gateway": {"telemetry", "endpoints", "registry", "replicas", "store", "types"},
    "control": {
        "gateway",
        "telemetry",
        "endpoints",
        "registry",
        "replicas",
        "store",
        "checkpoints",
        "machine",
        "types",
    },
    "api": {"control", "gateway", "telemetry", "endpoints", "registry", "replicas", "store", "types"},
    "dashboard": {"api", "control", "gateway", "telemetry", "endpoints", "registry", "replicas", "store", "types"},
    "server": {
        "dashboard",
        "api",
        "control",
        "gateway",
        "telemetry",
        "endpoints",
        "registry",
        "replicas",
        "store",
        "types",
    },
    "engine": {"checkpoints", "machine", "types"},
    "cli": {
        "server",
        "dashboard",
        "api",
        "control",
        "gateway",
        "endpoints",
        "registry",
        "replicas",
        "store",
        "engine",
        "types",
    },
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def _imports(module: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports hide the direction"
            names.add(node.module or "")
    return {name.split(".")[1] for name in names if name.startswith("loradock.")}


def _room(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0]


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_imports_go_one_way(module: Path):
    if module.parent == PACKAGE:
        return
    room = _room(module)
    assert _imports(module) <= ALLOWED[room] | {room}


def test_every_room_is_known():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(ALLOWED)


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_modules_stay_small(module: Path):
    assert len(module.read_text().splitlines()) <= 400
