"""API keys. These commands work on the data folder, so that the first key needs no key."""

import shlex
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loradock.cli.output import JsonFlag, console, print_json, print_table
from loradock.cli.tables import Column
from loradock.cli.times import when, zone_name
from loradock.cli.usage import program
from loradock.configuration.settings import default_data_dir
from loradock.types.access import OPERATOR
from loradock.types.errors import BadRequest

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

app = typer.Typer(
    help="Make, list and revoke API keys. They work on the data folder, no server needed.", no_args_is_help=True
)
DataDir = Annotated[Path, typer.Option("--data-dir", envvar="LORADOCK_DATA_DIR", help="The server's data folder.")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it.")]
Account = Annotated[str, typer.Option("--account", help="The account's name; made when new.")]


@contextmanager
def _session(data_dir: Path, *, or_new: bool = False) -> Iterator["Session"]:
    """Open a session on the data folder's database; `or_new`: on a new one where there is none yet."""
    from sqlalchemy.exc import DatabaseError

    from loradock.configuration.settings import Settings
    from loradock.server.bootstrap import open_existing_database
    from loradock.store.actor import ACTOR

    ACTOR.set(OPERATOR.key_name)
    try:
        settings = Settings(data_dir=data_dir.expanduser().resolve())
        database = open_existing_database(settings, or_new=or_new)
        with closing(database), database.session() as session:
            yield session
    except DatabaseError as error:
        raise BadRequest(f"the database in {data_dir} cannot be used: {error.orig}") from error


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")] = "key",
    account: Account = "local",
    data_dir: DataDir = default_data_dir(),  # noqa: B008 - typer reads defaults
    json_output: JsonFlag = False,
) -> None:
    """Make a key. Its text is shown this once."""
    from loradock.operations.keys import create_in

    with _session(data_dir, or_new=True) as session:
        key, plain = create_in(session, OPERATOR, account, name)
        shown = {"id": key.id, "name": key.name, "account": key.account.slug, "key": plain}
    if json_output:
        print_json(shown)
        return
    console.print(
        f"Key {shown['id']} for account {shown['account']}. Keep it now, it is not shown again:\n\n  {plain}\n"
    )


@app.command("list")
def index(data_dir: DataDir = default_data_dir(), json_output: JsonFlag = False) -> None:  # noqa: B008
    """List keys, without their text."""
    rows = _rows(data_dir)
    if json_output:
        print_json(rows)
        return
    columns = (
        Column("NAME", folds=True),
        Column("ACCOUNT", folds=True),
        Column("HINT"),
        Column("STATUS"),
        Column("ID"),
        Column(f"CREATED ({zone_name()})", rank=1),
    )
    shown = ([*(row[c] for c in ("name", "account", "hint", "status", "id")), when(row["created_at"])] for row in rows)
    make_one = f"{program()} keys create --data-dir {shlex.quote(str(data_dir))}"
    print_table(columns, shown, f"No keys yet in {data_dir}. Make one: {make_one}")


def _rows(data_dir: Path) -> list[dict[str, str]]:
    """None for a folder that is there and holds no database yet."""
    from loradock.operations.keys import readable_keys
    from loradock.store.tables import iso

    if data_dir.is_dir() and not any(data_dir.iterdir()):
        return []
    with _session(data_dir) as session:
        return [
            {
                "id": key.id,
                "account": key.account.slug,
                "name": key.name,
                "hint": f"…{key.hint}",
                "created_at": iso(key.created_at),
                "status": "revoked" if key.revoked_at else "active",
            }
            for key in readable_keys(session, OPERATOR)
        ]


@app.command("revoke")
def revoke(key_id: KeyId, data_dir: DataDir = default_data_dir(), json_output: JsonFlag = False) -> None:  # noqa: B008
    """Make a key worthless, within two seconds also on a running server."""
    from loradock.operations.keys import revoke_in

    with _session(data_dir) as session:
        revoke_in(session, OPERATOR, key_id)
    if json_output:
        print_json({"id": key_id, "status": "revoked"})
    else:
        console.print(f"Key {key_id} is revoked.")
