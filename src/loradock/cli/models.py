"""Uploaded adapters and base models."""

import time
from typing import Annotated, Any

import typer

from loradock.cli.client import DEFAULT_URL, ApiKeyOption, BaseUrl, Client, segment
from loradock.cli.output import JsonFlag, console, print_fields, print_json, print_table, size
from loradock.cli.references import endpoint_id
from loradock.cli.sending import LocalFile, local_files, progress
from loradock.types.enums import JobStatus, ModelKind
from loradock.types.errors import BadRequest

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
_POLL_SECONDS = 0.2


@app.command("list")
@app.command("ls", hidden=True)
def index(json_output: JsonFlag = False, base_url: BaseUrl = DEFAULT_URL, api_key: ApiKeyOption = None) -> None:
    """List your models and the base models this server knows."""
    models = Client(base_url, api_key).call("GET", "/v1/models", catalogue="true")["data"]
    if json_output:
        print_json(models)
        return
    rows = (
        [m["id"], m.get("kind", "model"), m.get("base_model"), m.get("rank"), size(m.get("size_bytes"))] for m in models
    )
    print_table(
        ("NAME", "KIND", "BASE MODEL", "RANK", "SIZE"), rows, "No models yet. Upload one: loradock models upload …"
    )


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
    name: str, json_output: JsonFlag = False, base_url: BaseUrl = DEFAULT_URL, api_key: ApiKeyOption = None
) -> None:
    """Delete an uploaded model that is not attached anywhere."""
    answer = Client(base_url, api_key).call("DELETE", f"/v1/models/{segment(name)}")
    print_json(answer) if json_output else console.print(f"[green]✓[/green] Deleted {answer['id']}")


@app.command("update")
def update(
    name: str,
    base_model: Annotated[str, typer.Option(help="The base model the adapter was trained on, as it is called here.")],
    json_output: JsonFlag = False,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKeyOption = None,
) -> None:
    """Correct what base model an adapter is for; it is checked again and not uploaded again."""
    answer = Client(base_url, api_key).call("PATCH", f"/v1/models/{segment(name)}", {"base_model": base_model})
    if json_output:
        print_json(answer)
    else:
        console.print(f"[green]✓[/green] {answer['id']} is for {answer['base_model']}: {answer['message']}")


@app.command("upload")
def upload(
    name: Annotated[str, typer.Argument(help="A short name; your account is put in front.")],
    source: Annotated[
        str, typer.Argument(help="Local folder or archive, Hugging Face repo, http(s):// or file:// URL.")
    ],
    base_model: Annotated[str | None, typer.Option(help="The adapter's base; default: what its config says.")] = None,
    lora_model: Annotated[str | None, typer.Option(help="Endpoint to attach it to after the upload.")] = None,
    kind: Annotated[ModelKind, typer.Option("--type", help="What is uploaded.")] = ModelKind.ADAPTER,
    hf_token: Annotated[str | None, typer.Option(envvar="HF_TOKEN", help="For private repos; never stored.")] = None,
    description: Annotated[str | None, typer.Option()] = None,
    subfolder: Annotated[str | None, typer.Option(help="Where in the source it lies, e.g. checkpoint-500.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the upload to its end.")] = True,
    json_output: JsonFlag = False,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKeyOption = None,
) -> None:
    """Upload an adapter (or, with --type model, a base model)."""
    client = Client(base_url, api_key)
    fields = {
        "model_name": name,
        "model_type": kind.value,
        "base_model": base_model,
        "lora_model": endpoint_id(client, lora_model) if lora_model else None,
        "description": description,
        "subfolder": subfolder,
    }
    given = {key: value for key, value in fields.items() if value is not None}
    answer = send(client, given, source, hf_token, quiet=json_output)
    if wait:
        job = follow(client, answer["data"]["job_id"], quiet=json_output)
        if job["status"] == JobStatus.FAILED:
            raise BadRequest(job["status_updates"][-1]["message"])
    if json_output:
        print_json(answer)
    else:
        console.print(f"[green]✓[/green] {answer['data']['model_name']} {'is ready' if wait else 'is being uploaded'}")


def send(
    client: Client, fields: dict[str, str], source: str, hf_token: str | None = None, *, quiet: bool = False
) -> Any:
    """Start an upload: a local path's bytes, or a remote source for the server to fetch."""
    files = local_files(source, ModelKind(fields["model_type"]), fields.get("subfolder"))
    if files is None:
        token = {"hf_token": hf_token} if hf_token else {}
        return client.call("POST", "/v1/models", {**fields, **token, "model_source": source})
    with progress(quiet=quiet) as bar:
        task = bar.add_task("", total=sum(file.stat().st_size for file in files.values()))
        opened = [
            ("files", (name, LocalFile(file, lambda count: bar.advance(task, count)))) for name, file in files.items()
        ]
        return client.upload("/v1/models/upload", fields, opened)


def follow(client: Client, job_id: str, *, quiet: bool) -> dict[str, Any]:
    """Print a job's steps as they come, until it ends."""
    shown = 0
    while True:
        job: dict[str, Any] = client.call("GET", f"/v1/jobs/{job_id}")
        for step in job["status_updates"][shown:]:
            if not quiet:
                console.print(f"  [dim]{step['message']}[/dim]")
        shown = len(job["status_updates"])
        if job["status"] in (JobStatus.COMPLETE, JobStatus.FAILED):
            return job
        time.sleep(_POLL_SECONDS)
