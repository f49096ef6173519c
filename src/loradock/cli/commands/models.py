"""Uploaded adapters and base models."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated

import typer
from rich.markup import escape

from loradock.cli.client import DEFAULT_URL, ApiKeyOption, BaseUrl, Client, segment
from loradock.cli.commands import bulk, uploading
from loradock.cli.commands.uploading import Upload
from loradock.cli.finding import hint
from loradock.cli.listing import Limit, Search, Sort, page
from loradock.cli.output import JsonFlag, Yes, ask, console, print_fields, print_json, print_table, size
from loradock.cli.references import endpoint_id
from loradock.cli.tables import Column
from loradock.types.enums import ModelKind

app = typer.Typer(help="Upload, list and delete adapters and base models.", no_args_is_help=True)
_FIELDS = (
    "id",
    "kind",
    "state",
    "base_model",
    "attached_to",
    "rank",
    "target_modules",
    "size_bytes",
    "digest",
    "description",
)


@app.command("list")
@app.command("ls", hidden=True)
def index(
    search: Search = None,
    sort: Sort = None,
    limit: Limit = None,
    kind: Annotated[ModelKind | None, typer.Option("--type", help="Only these.")] = None,
    json_output: JsonFlag = False,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKeyOption = None,
) -> None:
    """List your models and the base models this server knows."""
    asked = {**page(search, sort, limit), "kind": kind, "catalogue": "true"}
    models = Client(base_url, api_key).call("GET", "/v1/models", **asked)["data"]
    if json_output:
        print_json(models)
        return
    rows = (
        [
            m["id"],
            m.get("kind", "model"),
            m.get("base_model"),
            m.get("rank"),
            size(m.get("size_bytes")),
            m.get("attached_to"),
        ]
        for m in models
    )
    columns = (
        Column("NAME"),
        Column("KIND"),
        Column("BASE MODEL", rank=2),
        Column("RANK", rank=1),
        Column("SIZE", rank=1),
        Column("ATTACHED TO", rank=3),
    )
    empty = f"No models yet. Upload one: {hint('models upload my-adapter ./my-adapter')}"
    print_table(columns, rows, empty if search is None and kind is None else "No such models.")


@app.command("retrieve")
@app.command("get", hidden=True)
def retrieve(
    name: str, json_output: JsonFlag = False, base_url: BaseUrl = DEFAULT_URL, api_key: ApiKeyOption = None
) -> None:
    """Show one model."""
    model = Client(base_url, api_key).call("GET", f"/v1/models/{segment(name)}")
    print_json(model) if json_output else print_fields(model, _FIELDS)


@app.command("delete")
@app.command("rm", hidden=True)
def delete(
    names: Annotated[list[str], typer.Argument(metavar="NAME…")],
    yes: Yes = False,
    json_output: JsonFlag = False,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKeyOption = None,
) -> None:
    """Delete uploaded models that are not attached anywhere."""
    client = Client(base_url, api_key)
    if len(names) == 1:
        answer = client.call("DELETE", f"/v1/models/{segment(names[0])}")
        print_json(answer) if json_output else console.print(f"[green]✓[/green] Deleted {answer['id']}")
        return
    chosen = list(dict.fromkeys(names))
    if not json_output:
        ask(f"Delete {len(chosen)} models?", yes=yes)
    outcomes = bulk.each(
        chosen, "deleted", lambda name: client.call("DELETE", f"/v1/models/{segment(name)}"), quiet=json_output
    )
    bulk.conclude(outcomes, json_output=json_output)


@app.command("update")
def update(
    name: str,
    base_model: Annotated[str, typer.Option(help="The base model the adapter was trained on, as it is called here.")],
    json_output: JsonFlag = False,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKeyOption = None,
) -> None:
    """Correct which base model an adapter is for. It is checked again and not uploaded again."""
    answer = Client(base_url, api_key).call("PATCH", f"/v1/models/{segment(name)}", {"base_model": base_model})
    if json_output:
        print_json(answer)
    else:
        found = escape(f"{answer['id']} is for {answer['base_model']}: {answer['message']}")
        console.print(f"[green]✓[/green] {found}")


@app.command("upload")
def upload(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME] SOURCE…",
            help="Local folders or archives, Hugging Face repos, http(s):// or file:// URLs. One may be given a short"
            " name in front; otherwise each is named after its folder or file.",
        ),
    ],
    name: Annotated[str | None, typer.Option("--name", help="The name for one source.")] = None,
    base_model: Annotated[str | None, typer.Option(help="The adapter's base; default: what its config says.")] = None,
    lora_model: Annotated[str | None, typer.Option(help="Endpoint to attach it to after the upload.")] = None,
    kind: Annotated[ModelKind, typer.Option("--type", help="What is uploaded.")] = ModelKind.ADAPTER,
    hf_token: Annotated[str | None, typer.Option(envvar="HF_TOKEN", help="For private repos; never stored.")] = None,
    description: Annotated[str | None, typer.Option()] = None,
    subfolder: Annotated[str | None, typer.Option(help="Where in the source it lies, e.g. checkpoint-500.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the upload to its end.")] = True,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Leave out names that are taken.")] = False,
    json_output: JsonFlag = False,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKeyOption = None,
) -> None:
    """Upload an adapter, or many. `upload my-adapter ./folder`, `upload ./adapters/*`."""
    others = uploading.beside(sources) if len(sources) > 2 else []
    common = Upload("", "", base_model, kind, description=description, hf_token=hf_token, subfolder=subfolder)
    uploads = uploading.named([source for source in sources if source not in others], name, common)
    client = Client(base_url, api_key)
    if lora_model:
        endpoint = endpoint_id(client, lora_model)
        uploads = [replace(upload, lora_model=endpoint) for upload in uploads]
    if len(uploads) == 1 and not skip_existing:
        _one(client, uploads[0], wait=wait, json_output=json_output)
        return
    if others and not json_output:
        console.print(f"Not uploaded, being no adapters: {escape(', '.join(others))}", soft_wrap=True)
    _many(client, uploads, wait=wait, skip_existing=skip_existing, json_output=json_output)


def _one(client: Client, upload: Upload, *, wait: bool, json_output: bool) -> None:
    send = uploading.upload_and_wait if wait else uploading.start
    answer = send(client, upload, quiet=json_output)
    if json_output:
        print_json(answer)
    else:
        console.print(f"[green]✓[/green] {answer['data']['model_name']} {'is ready' if wait else 'is being uploaded'}")


def _many(client: Client, uploads: list[Upload], *, wait: bool, skip_existing: bool, json_output: bool) -> None:
    by_name = {upload.name: upload for upload in uploads}
    taken = _taken(client, by_name) if skip_existing else []
    fresh = [name for name in by_name if name not in taken]
    send = uploading.upload_and_wait if wait else uploading.start
    outcomes = [bulk.Outcome(name, "already there") for name in taken]
    outcomes += bulk.each(
        fresh, "uploaded" if wait else "sent", lambda name: send(client, by_name[name], quiet=True), quiet=json_output
    )
    bulk.conclude(outcomes, json_output=json_output)


def _taken(client: Client, names: Iterable[str]) -> list[str]:
    known = {m["id"] for m in client.call("GET", "/v1/models", catalogue="true")["data"]}
    account = client.call("GET", "/v1/whoami")["organization"]["name"]
    return [name for name in names if name in known or f"{account}/{name}" in known]
