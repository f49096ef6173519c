"""The architecture, held by the machine (docs/structure.md): which room imports which, no circles, nothing crowded."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"
PACKAGE = SOURCE / "loradock"
MODULES = sorted(PACKAGE.rglob("*.py"))
EDGES: dict[str, set[str]] = {
    "machine": set(),
    "types": set(),
    "checkpoints": {"types"},
    "configuration": {"types"},
    "store": {"types"},
    "endpoints": {"machine", "types", "store"},
    "engine": {"machine", "types", "checkpoints"},
    "registry": {"types", "checkpoints", "store"},
    "replicas": {"machine", "types", "checkpoints"},
    "telemetry": {"types", "store"},
    "queries": {"types", "store", "endpoints", "telemetry"},
    "gateway": {"types", "store", "replicas", "telemetry"},
    "control": {"machine", "types", "checkpoints", "store", "endpoints", "replicas", "telemetry", "gateway"},
    "operations": {"types", "configuration", "store", "endpoints", "registry", "telemetry", "gateway", "control"},
    "api": {"types", "store", "endpoints", "registry", "telemetry", "queries", "gateway", "control", "operations"},
    "dashboard": {
        "types",
        "store",
        "endpoints",
        "registry",
        "telemetry",
        "queries",
        "gateway",
        "control",
        "operations",
    },
    "server": {
        "types",
        "configuration",
        "store",
        "registry",
        "replicas",
        "telemetry",
        "gateway",
        "control",
        "operations",
        "api",
        "dashboard",
    },
    "cli": {"types", "checkpoints", "configuration", "store", "engine", "registry", "operations", "server"},
}
"""Exactly what each room imports of the others."""
MOST_MODULES, MOST_LINES, MOST_CLASS_LINES, MOST_ATTRIBUTES = 16, 400, 150, 15
_SETTINGS = "settings, a field each"
LARGER = {
    "checkpoints.architecture.Architecture": "facts of a file, a field each",
    "configuration.settings.Settings": _SETTINGS,
    "control.options.ControlOptions": _SETTINGS,
    "endpoints.rules.NewEndpoint": _SETTINGS,
    "engine.process.options.EngineOptions": _SETTINGS,
    "store.tables.Deployment": "a table's columns",
    "operations.records.EndpointRecord": "facts of a row, a field each",
    "gateway.proxy.exchange.Exchange": "what is known of one exchange, for the meter and the log",
    "server.http.HttpProtocol": "one protocol's callbacks, which share one connection's state",
    "control.controller.Controller": "one short method for each thing that other rooms ask of the control loop",
}
"""Classes that are larger, and why."""


@cache
def _tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text())


def _name(module: Path) -> str:
    return ".".join(module.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


NAMES = {_name(module) for module in MODULES}


@cache
def _imports(module: Path) -> frozenset[str]:
    """Our modules that it imports, wherever it does."""
    found: set[str] = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports hide the direction"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in NAMES else node.module or "")
    return frozenset(found & NAMES - {_name(module)})


def _room(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def test_rooms_import_what_the_table_says():
    edges = {path.parent.name: set[str]() for path in PACKAGE.glob("*/__init__.py")}
    for module in MODULES:
        if room := _room(_name(module)):
            edges[room] |= {_room(name) for name in _imports(module)} - {room, ""}
    assert edges == EDGES


def test_rooms_import_one_way():
    _assert_no_circle(EDGES)


def test_no_files_import_each_other_in_a_circle():
    _assert_no_circle({_name(module): set(_imports(module)) for module in MODULES})


def _assert_no_circle(edges: dict[str, set[str]]) -> None:
    left = {name: set(targets) for name, targets in edges.items()}
    while free := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in free:
            del left[name]
    assert not left, f"in a circle, or above one: {sorted(left)}"


def test_pages_and_routes_hold_no_queries():
    """What they read from the database is in `queries`; they may name a session, as a type."""
    used = {
        (_name(module), name)
        for module in MODULES
        if _room(_name(module)) in ("dashboard", "api")
        for name in _of_sqlalchemy(_tree(module))
    }
    assert {pair for pair in used if pair[1] != "sqlalchemy.orm.Session"} == set()


def _of_sqlalchemy(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "sqlalchemy")


def test_no_folder_is_crowded():
    folders = {module.parent for module in MODULES}
    counts = {str(folder.relative_to(SOURCE)): len([*folder.glob("[!_]*.py")]) for folder in folders}
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_modules_stay_small(module: Path):
    assert len(module.read_text().splitlines()) <= MOST_LINES


def test_classes_stay_small():
    sizes = {
        f"{_name(module).removeprefix('loradock.')}.{node.name}": (_lines(node), len({*_attributes(node)}))
        for module in MODULES
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.ClassDef)
    }
    larger = {name for name, size in sizes.items() if size[0] > MOST_CLASS_LINES or size[1] > MOST_ATTRIBUTES}
    assert larger == set(LARGER), {name: sizes.get(name) for name in larger ^ set(LARGER)}


def _lines(node: ast.ClassDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _attributes(node: ast.ClassDef) -> Iterator[str]:
    """Those set in `__init__` or, of a class that sets none there, declared in its body."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            for part in ast.walk(item):
                if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store):
                    yield part.attr
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            yield item.target.id


def test_the_page_names_every_room():
    page = (SOURCE.parent / "docs" / "structure.md").read_text()
    control_plane, engine = page.split("| `engine/` |")
    assert set(re.findall(r"^\| `(\w+)/`", control_plane, re.MULTILINE)) == EDGES.keys() - {"engine"}
    folders = {path.name for path in (PACKAGE / "engine").iterdir() if path.is_dir() and path.name[0] != "_"}
    rows = engine.split("## Where to change what")[0]
    assert set(re.findall(r"`(\w+)/`", rows)) - {"responses"} == folders
