"""Telling the kinds of `model_source` apart."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from loradock.registry.sources.archive_url import ArchiveUrl
from loradock.registry.sources.hub import HubRepo, hub_endpoint, places_of, repo_from_url
from loradock.registry.sources.import_root import Imported
from loradock.registry.transfer import Transfer
from loradock.types.enums import ModelKind
from loradock.types.errors import BadRequest

_PART = r"[A-Za-z0-9][\w.-]*"
_REPO = re.compile(rf"(?P<id>{_PART}/{_PART})(?P<folder>(/[\w.-][\w. -]*)*)/?(@(?P<ref>[\w./ -]+?)/?)?")
"""`org/name`, `org/name@revision`, `org/name/sub/folder`, or both; the folder before the revision or behind it."""


class Source(Protocol):
    """Something files can be fetched from. `label` may be stored and shown: it holds no secret."""

    @property
    def label(self) -> str: ...

    def fetch(
        self, workspace: Path, into: Path, kind: ModelKind | None, transfer: Transfer, subfolder: str | None = None
    ) -> ModelKind:
        """Write the model's files flat into `into`, using `workspace` for anything else; returns the kind found.
        `subfolder`: where in the source they lie."""
        ...


@dataclass(frozen=True)
class SourceRules:
    """The operator's rules for sources. `hub_endpoint` None: HF_ENDPOINT or the public hub."""

    import_root: Path | None = None
    allow_private_sources: bool = False
    hub_endpoint: str | None = None


def read_source(model_source: str, rules: SourceRules, hf_token: str | None = None) -> Source:
    """Raises BadRequest naming the sources that exist."""
    text = model_source.strip()
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    hub = (rules.hub_endpoint or hub_endpoint()).rstrip("/")
    if scheme == "file":
        return Imported.from_url(text, rules.import_root)
    if scheme in ("http", "https"):
        _check_url(text)
        repo = repo_from_url(text, hub)
        if repo is not None:
            return HubRepo(repo[0], repo[1], hub, hf_token)
        return ArchiveUrl(text, without_secrets(text), rules.allow_private_sources)
    match = _REPO.fullmatch(text)
    if match is None or ".." in text:
        raise BadRequest(
            f"model_source {without_secrets(text)!r} is not a valid source: give a Hugging Face repo (org/name,"
            " org/name/folder or its URL), an http(s) URL of a .zip or .tar.gz, or file://<path under the import root>",
            param="model_source",
        )
    return HubRepo(match["id"], places_of(match["folder"], match["ref"]), hub, hf_token)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise BadRequest("model_source is not a valid URL: check its host and port", param="model_source")


def without_secrets(url: str) -> str:
    """The URL without user, password, query and fragment, where presigned URLs carry their signature."""
    if "://" not in url:
        return url[:200]
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("://")[0] + "://…"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))[:500]
