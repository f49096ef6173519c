"""Uploads as the server carries them out."""

from typing import Annotated, Any

import typer

from loradock.cli.client import DEFAULT_URL, ApiKeyOption, BaseUrl, Client, segment
from loradock.cli.listing import Limit, Search, Sort, page
from loradock.cli.output import JsonFlag, console, print_fields, print_json, print_table
from loradock.cli.tables import Column
from loradock.cli.times import when, zone_name
from loradock.types.enums import JobStatus

app = typer.Typer(help="Follow uploads: list them, show one.", no_args_is_help=True)
_MOST = 50


@app.command("list")
@app.command("ls", hidden=True)
def index(
    status: Annotated[JobStatus | None, typer.Option(case_sensitive=False, help="Only these.")] = None,
    search: Search = None,
    sort: Sort = None,
    limit: Limit = _MOST,
    json_output: JsonFlag = False,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKeyOption = None,
) -> None:
    """List uploads, the newest first."""
    answer = Client(base_url, api_key).call("GET", "/v1/jobs", status=status, **page(search, sort, limit))
    if json_output:
        print_json(answer)
        return
    jobs = answer["data"]
    columns = (
        Column("STATUS"),
        Column("MODEL"),
        Column(f"UPDATED ({zone_name()})", rank=1),
        Column("JOB"),
        Column("SOURCE", rank=2, folds=True),
    )
    rows = ([j["status"], _model(j), when(j["updated_at"]), j["job_id"], j["args"].get("modelSource")] for j in jobs)
    reasons = [j["message"] if j["status"] == JobStatus.FAILED else None for j in jobs]
    print_table(columns, rows, "No uploads yet." if (status, search) == (None, None) else "No such uploads.", reasons)
    if answer["has_more"]:
        console.print(f"{answer['total'] - len(jobs)} more: --limit {answer['total']} shows all", soft_wrap=True)


@app.command("show")
@app.command("retrieve", hidden=True)
@app.command("get", hidden=True)
def show(
    job: Annotated[str, typer.Argument(metavar="JOB", help="Its id.")],
    json_output: JsonFlag = False,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKeyOption = None,
) -> None:
    """Show one upload, step by step."""
    found = Client(base_url, api_key).call("GET", f"/v1/jobs/{segment(job)}")
    if json_output:
        print_json(found)
        return
    about = {**found, "model": _model(found), "source": found["args"].get("modelSource")}
    print_fields(about, ("job_id", "status", "model", "source", "created_at", "updated_at"))
    console.print()
    rows = ([when(step["timestamp"]), step["status"], step["message"]] for step in found["status_updates"])
    print_table((f"WHEN ({zone_name()})", "STATUS", Column("", folds=True)), rows, "No step yet.")


def _model(job: dict[str, Any]) -> str | None:
    name: str | None = job["args"].get("modelName")
    return name
