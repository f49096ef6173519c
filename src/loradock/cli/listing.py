"""Options of commands that list what can be many."""

from typing import Annotated, Any

import typer

Search = Annotated[str | None, typer.Option("--search", "-s", help="Only those with this text in them.")]
Sort = Annotated[str | None, typer.Option("--sort", help="A field, e.g. created_at; with - in front: downwards.")]
Limit = Annotated[int | None, typer.Option("--limit", "-n", min=1, help="How many at most.")]


def page(search: str | None, sort: str | None, limit: int | None) -> dict[str, Any]:
    """Return the options as query parameters."""
    return {"search": search, "sort": sort, "limit": limit}
