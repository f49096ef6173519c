"""Uploads from the command line: of one or many, to their end."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.markup import escape

from loradock.cli.client import Client
from loradock.cli.commands.sending import LocalFile, is_archive, local_files, progress
from loradock.cli.output import console
from loradock.cli.usage import UsageProblem, program
from loradock.cli.waiting import Pauses
from loradock.types.enums import JobStatus, ModelKind
from loradock.types.errors import BadRequest

_SHORT_NAME = re.compile(r"([a-z0-9-]+/)?[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_ENDINGS = (".safetensors", ".gguf", ".zip", ".tar", ".tar.gz", ".tgz")


@dataclass(frozen=True, slots=True)
class Upload:
    """`lora_model`: the id of an endpoint to attach it to afterwards."""

    name: str
    source: str
    base_model: str | None = None
    kind: ModelKind = ModelKind.ADAPTER
    lora_model: str | None = None
    description: str | None = None
    hf_token: str | None = None
    subfolder: str | None = None


def named(given: Sequence[str], name: str | None, common: Upload) -> list[Upload]:
    """Return what `models upload` was told to upload: `NAME SOURCE`, or sources that are named after themselves.

    Raises UsageProblem where that is not clear.
    """
    if name is not None and len(given) > 1:
        raise UsageProblem(f"--name is for one source, and there are {len(given)}")
    if name is None and len(given) == 2 and _is_name(*given):
        name, given = given[0], given[1:]
    if name is not None:
        return [replace(common, name=name, source=given[0])]
    uploads = [replace(common, name=_name_of(source), source=source) for source in given]
    names = [upload.name for upload in uploads]
    if twice := sorted({found for found in names if names.count(found) > 1}):
        raise UsageProblem(f"several sources would be named {', '.join(twice)}: upload those with --name")
    return uploads


def beside(sources: Sequence[str]) -> list[str]:
    """Return those of many sources that a shell's * finds beside adapters: files that are no archives of weights."""
    return [source for source in sources if Path(source).is_file() and not source.endswith(_ENDINGS)]


def _is_name(first: str, second: str) -> bool:
    """Whether the first of two is the name for the second. Raises UsageProblem when both could be sources."""
    if not _SHORT_NAME.fullmatch(first):
        return False
    if not Path(first).exists():
        return "/" not in first or Path(second).exists()
    if "/" in first:
        return False
    if Path(second).exists() and Path(second).name != first:
        raise UsageProblem(
            f"{first!r} is a name and a path here: write ./{first} to upload both, or --name {first} for one"
        )
    return True


def _name_of(source: str) -> str:
    path = source.rstrip("/").partition("?")[0] if "://" in source else str(Path(source).expanduser().resolve())
    found = path.rpartition("/")[2]
    for ending in sorted(_ENDINGS, key=len, reverse=True):
        if is_archive(source) and found.endswith(ending):
            found = found.removesuffix(ending)
            break
    found = found.partition("@")[0]
    if not _SHORT_NAME.fullmatch(found):
        raise UsageProblem(
            f"{source} cannot be named after itself: give a name, {program()} models upload <name> {source}"
        )
    return found


def start(client: Client, upload: Upload, *, quiet: bool = False) -> Any:
    """A local path's bytes, or a remote source for the server to fetch."""
    fields = {
        "model_name": upload.name,
        "model_type": upload.kind.value,
        "base_model": upload.base_model,
        "lora_model": upload.lora_model,
        "description": upload.description,
        "subfolder": upload.subfolder,
    }
    given = {key: value for key, value in fields.items() if value is not None}
    files = local_files(upload.source, upload.kind, upload.subfolder)
    if files is None:
        token = {"hf_token": upload.hf_token} if upload.hf_token else {}
        return client.call("POST", "/v1/models", {**given, **token, "model_source": upload.source})
    with progress(quiet=quiet) as bar:
        task = bar.add_task("", total=sum(file.stat().st_size for file in files.values()))
        opened = [
            ("files", (name, LocalFile(file, lambda count: bar.advance(task, count)))) for name, file in files.items()
        ]
        return client.upload("/v1/models/upload", given, opened)


def upload_and_wait(client: Client, upload: Upload, *, quiet: bool = True) -> Any:
    """The server's answer to the upload, once it is ready. Raises BadRequest with the reason when it failed."""
    answer = start(client, upload, quiet=quiet)
    follow(client, answer["data"]["job_id"], quiet=quiet)
    return answer


def follow(client: Client, job_id: str, *, quiet: bool) -> dict[str, Any]:
    """Print a job's steps as they come, until it ends. Raises BadRequest with the reason when it failed."""
    shown, pauses = 0, Pauses()
    while True:
        job: dict[str, Any] = client.call("GET", f"/v1/jobs/{job_id}")
        for step in job["status_updates"][shown:]:
            if not quiet and step["status"] != JobStatus.FAILED:
                console.print(f"  [dim]{escape(step['message'])}[/dim]")
        shown = len(job["status_updates"])
        if job["status"] == JobStatus.FAILED:
            raise BadRequest(job["status_updates"][-1]["message"])
        if job["status"] == JobStatus.COMPLETE:
            return job
        pauses.pause()
