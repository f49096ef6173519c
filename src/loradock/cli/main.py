"""`loradock`: every command in one tree. Heavy imports wait until a command needs them."""

import sys
from typing import Annotated, NoReturn

import typer

from loradock import __version__
from loradock.cli import common, completion
from loradock.cli.commands import adapters, cache, demo, endpoints, events, jobs, keys, logs, models, serve
from loradock.cli.output import fail
from loradock.cli.usage import EXIT_USAGE, UsageProblem
from loradock.types.errors import BadRequest, LoradockError
from loradock.types.extras import require_engine

_UsageError: type[Exception] = typer.BadParameter.__bases__[0]  # typer exports only this child of it
app = typer.Typer(
    name="loradock",
    help="The self-hosted home for LoRA adapters.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("events")(events.events)
app.command("completion")(completion.completion)
app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")
app.add_typer(jobs.app, name="jobs")
app.add_typer(cache.app, name="cache")
app.add_typer(endpoints.app, name="endpoints")
endpoints.app.command("logs")(logs.logs)
endpoints.app.add_typer(adapters.app, name="adapters")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"loradock {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """The self-hosted home for LoRA adapters."""


@app.command(
    "engine", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False
)
def engine(context: typer.Context) -> None:
    """Run one replica's engine by itself (`loradock engine --help`)."""
    require_engine()
    from loradock.engine.process.main import main as engine_main

    engine_main(context.args)


def main() -> NoReturn:
    """The console script: user errors become one readable line and exit status 1, wrong usage 2."""
    as_json = "--json" in sys.argv
    try:
        sys.exit(completion.run(common.with_common_options(typer.main.get_command(app))))
    except LoradockError as error:
        fail(error, json_output=as_json)
    except _UsageError as error:
        _fail_usage(error, as_json)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        fail(BadRequest(_words(error)), json_output=as_json)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)


def _fail_usage(error: Exception, as_json: bool) -> NoReturn:
    """`error` is typer's; shown by itself it brings the command's usage along."""
    message = error.format_message()  # type: ignore[attr-defined]
    if as_json:
        fail(UsageProblem(message.splitlines()[0] if message else "give a command"), json_output=True)
    error.show()  # type: ignore[attr-defined]
    sys.exit(EXIT_USAGE)


def _words(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}"


if __name__ == "__main__":
    main()
