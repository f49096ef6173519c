"""Options that every command which speaks to a server has: whose server, which time zone, how wide."""

from typing import Annotated, Any

import typer

from loradock.cli.finding import use_data_dir
from loradock.cli.tables import use_wide
from loradock.cli.times import use_utc

_MARK = "base_url"
"""A command with this parameter speaks to a server."""


def with_common_options(command: Any) -> Any:
    """`command` is typer's, with all below it."""
    wanted = typer.main.get_command(_app()).params
    _add(command, [parameter for parameter in wanted if parameter.name in ("data_dir", "utc", "wide")])
    return command


def _add(command: Any, options: list[Any]) -> None:
    for child in getattr(command, "commands", {}).values():
        _add(child, options)
    names = {parameter.name for parameter in command.params}
    if _MARK in names:
        command.params.extend(option for option in options if option.name not in names)


def _app() -> typer.Typer:
    """A command that is never called: typer makes the options of its parameters."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(_options)
    return app


def _options(
    data_dir: Annotated[
        str | None,
        typer.Option(
            "--data-dir",
            help="The server's data folder, which says where it is and has its first key (LORADOCK_DATA_DIR).",
            callback=use_data_dir,
            expose_value=False,
            is_eager=True,  # it beats the variables that other options read
            rich_help_panel="Connection",
        ),
    ] = None,
    utc: Annotated[
        bool, typer.Option("--utc", help="Times in UTC; also LORADOCK_TZ.", callback=use_utc, expose_value=False)
    ] = False,
    wide: Annotated[bool, typer.Option("--wide", help="Every column.", callback=use_wide, expose_value=False)] = False,
) -> None:
    raise NotImplementedError
