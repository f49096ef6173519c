"""Packed base models on this machine's disk."""

from datetime import UTC, datetime

import typer

from loradock.checkpoints.packed_cache import CachedModel, cache_folder, cached_models, clear
from loradock.cli.output import JsonFlag, console, print_json, print_table, size
from loradock.cli.times import when, zone_name

app = typer.Typer(
    help="Base models, packed once for all starts.",
    no_args_is_help=True,
)


@app.command("list")
def show(json_output: JsonFlag = False) -> None:
    """Show what is kept, the last used first. Nothing is lost when it goes: the next start packs anew."""
    found = cached_models()
    if json_output:
        print_json([_described(model) for model in found])
        return
    rows = [(model.name, size(model.size), when(_used(model))) for model in found]
    empty = f"Nothing is kept in {cache_folder()} yet: an endpoint's first start packs its base model."
    print_table(["model", "size", f"last used ({zone_name()})"], rows, empty)
    if found:
        total = size(sum(model.size for model in found))
        console.print(f"{total} in {cache_folder()}", style="dim", soft_wrap=True)


@app.command("clear")
def remove(json_output: JsonFlag = False) -> None:
    """Delete all of it. Engines that run go on with what they have."""
    found = clear()
    if json_output:
        print_json([_described(model) for model in found])
        return
    freed = size(sum(model.size for model in found)) or "0 B"
    console.print(f"✓ deleted {len(found)} packed model{'s' * (len(found) != 1)}, {freed}", soft_wrap=True)


def _described(model: CachedModel) -> dict[str, str | int]:
    return {"name": model.name, "bytes": model.size, "last_used_at": _used(model)}


def _used(model: CachedModel) -> str:
    return datetime.fromtimestamp(model.used, UTC).isoformat(timespec="seconds")
