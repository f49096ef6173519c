"""`endpoints adapters sync`: an endpoint's adapters as a file lists them."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape

from loradock.cli.commands import bulk
from loradock.cli.commands.attaching import Target, attached_names
from loradock.cli.commands.uploading import Upload, upload_and_wait
from loradock.cli.output import console, print_json
from loradock.types.enums import ModelKind, ModelState
from loradock.types.errors import BadRequest

_FIELDS = ("name", "source", "base_model")


@dataclass(frozen=True, slots=True)
class Wanted:
    """`source`: what to upload when there is no adapter of this name."""

    name: str
    source: str | None = None
    base_model: str | None = None


@dataclass(slots=True)
class Plan:
    """Full names of adapters; `upload`: those to be uploaded before they are attached; `problems`: what stands in the
    way, in words."""

    add: list[str] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    upload: dict[str, Wanted] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def view(self, *, dry_run: bool) -> dict[str, Any]:
        lists = {"add": self.add, "remove": self.remove, "unchanged": self.unchanged, "problems": self.problems}
        return {"dry_run": dry_run, "upload": list(self.upload), **lists}


def read(file: Path) -> list[Wanted]:
    """Raises BadRequest saying what is wrong with the file."""
    import yaml

    try:
        content = yaml.safe_load(sys.stdin.read() if str(file) == "-" else file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    if isinstance(content, dict):
        if unknown := [str(key) for key in content if key != "adapters"]:
            raise BadRequest(f"{file} has {', '.join(unknown)} beside `adapters`, which means nothing here")
        content = content.get("adapters")
    if not isinstance(content, list):
        raise BadRequest(f"{file} needs a list `adapters:` with names (`adapters: []` detaches all)")
    wanted = [_entry(file, number, entry) for number, entry in enumerate(content, 1)]
    names = [entry.name for entry in wanted]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadRequest(f"{file} lists {', '.join(twice)} more than once")
    return wanted


def _entry(file: Path, number: int, entry: Any) -> Wanted:
    where = f"{file}, adapter {number}"
    fields = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(fields, dict) or not isinstance(fields.get("name"), str) or not fields["name"]:
        raise BadRequest(f"{where}: give a name in quotes, or `name:` and `source:`, not {entry!r}")
    if unknown := [str(key) for key in fields if key not in _FIELDS]:
        raise BadRequest(f"{where}: {', '.join(unknown)} is not known; give {', '.join(_FIELDS)}")
    if wrong := [key for key, value in fields.items() if not isinstance(value, str)]:
        raise BadRequest(f"{where}: {', '.join(wrong)} must be text")
    source = fields.get("source")
    if source is not None and "://" not in source and source.startswith(("./", "../")):
        fields = {**fields, "source": str(file.parent / source)}  # as seen from the file
    return Wanted(**fields)


def plan(target: Target, wanted: Sequence[Wanted]) -> Plan:
    """Return what has to change. A wrong name is a problem before anything is changed, not a failure halfway."""
    account = target.endpoint["owner"]
    models = target.client.call("GET", "/v1/models", catalogue="true")["data"]
    known = {model["id"]: model for model in models if model.get("kind") == ModelKind.ADAPTER}
    attached = attached_names(target)
    made = Plan()
    for entry in wanted:
        name = entry.name if entry.name.startswith(f"{account}/") else f"{account}/{entry.name}"
        if name in (*made.add, *made.unchanged):
            made.problems.append(f"{name} is listed more than once")
        elif name in attached:
            made.unchanged.append(name)
        else:
            made.add.append(name)
            _check(made, entry, name, known, target.endpoint["name"])
    made.remove = [name for name in attached if name not in made.unchanged]
    return made


def _check(made: Plan, entry: Wanted, name: str, known: dict[str, Any], endpoint: str) -> None:
    model = known.get(name)
    if model is None:
        if entry.source:
            made.upload[name] = entry
        else:
            made.problems.append(f"there is no adapter {name}: upload it, or give it a source in the file")
    elif model["state"] != ModelState.READY:
        made.problems.append(f"{name} is still being uploaded")
    elif model["attached_to"] not in (None, endpoint):
        made.problems.append(f"{name} is attached to {model['attached_to']}: detach it there first")


def show(made: Plan) -> None:
    for name in made.add:
        how = "  (is uploaded first)" if name in made.upload else ""
        console.print(f"[green]+ attach[/green]  {escape(name)}{how}", soft_wrap=True)
    for name in made.remove:
        console.print(f"[red]- detach[/red]  {escape(name)}", soft_wrap=True)
    console.print(f"{len(made.add)} to attach, {len(made.remove)} to detach, {len(made.unchanged)} unchanged.")
    for problem in made.problems:
        console.print(f"[red]![/red] {escape(problem)}", soft_wrap=True)


def check(made: Plan) -> None:
    """Raises BadRequest; nothing has been changed then."""
    if made.problems:
        raise BadRequest(f"{'; '.join(made.problems)}. Nothing was changed")


def carry_out(target: Target, made: Plan, *, json_output: bool) -> None:
    """Attach first, then detach. Raises Exit with status 1 when not all of it was done."""
    total = len(made.add) + len(made.remove)

    def attach(name: str) -> Any:
        if entry := made.upload.get(name):
            upload_and_wait(target.client, Upload(name, entry.source or "", entry.base_model))
        return target.attach(name)

    outcomes = bulk.each(made.add, "attached", attach, quiet=json_output, total=total)
    if any(outcome.status == "skipped" for outcome in outcomes):
        outcomes += [bulk.Outcome(name, "skipped") for name in made.remove]
    else:
        after = len(made.add)
        outcomes += bulk.each(made.remove, "detached", target.detach, quiet=json_output, already=after, total=total)
    unchanged = len(made.unchanged)
    if json_output:
        print_json({**made.view(dry_run=False), "data": [outcome.view() for outcome in outcomes]})
    else:
        console.print(f"{bulk.summary(outcomes).removesuffix('.') or 'Nothing to do'}, {unchanged} unchanged.")
    if any(outcome.status in ("failed", "skipped") for outcome in outcomes):
        raise typer.Exit(1)
