"""`loradock`: every command in one tree. Heavy imports wait until a command needs them."""

import sys

import typer

from loradock.cli import adapters, demo, endpoints, keys, models, serve
from loradock.cli.output import fail
from loradock.types.errors import LoradockError

app = typer.Typer(
    name="loradock",
    help="The self-hosted home for LoRA adapters.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")
app.add_typer(endpoints.app, name="endpoints")
endpoints.app.add_typer(adapters.app, name="adapters")


@app.command(
    "engine", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False
)
def engine(context: typer.Context) -> None:
    """Run one replica's engine by itself (`loradock engine --help`)."""
    from loradock.engine.main import main as engine_main

    engine_main(context.args)


def main() -> None:
    """The console script: user errors become one readable line and exit code 1."""
    try:
        app(standalone_mode=True)
    except LoradockError as error:
        fail(error, json_output="--json" in sys.argv)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
