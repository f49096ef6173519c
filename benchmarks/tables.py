"""Markdown."""

from collections.abc import Iterable, Sequence


def section(title: str, body: str) -> str:
    """Nothing where there is no body."""
    return f"\n## {title}\n\n{body}\n" if body else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Nothing where there are no rows."""
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines]) if lines else ""
