"""A repository on the Hugging Face hub, or on a server that speaks its protocol (HF_ENDPOINT)."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from loradock.registry.contents import pick, stays_inside
from loradock.registry.transfer import Transfer
from loradock.store.failures import check_room
from loradock.types.enums import ModelKind
from loradock.types.errors import BadRequest, LoradockError

_PUBLIC_HUB = "https://huggingface.co"
_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PAGES_OF_FILES = ("blob", "resolve", "raw")
_MODEL_FILE = re.compile(r".+\.(safetensors|json|bin|pt|md|txt|jinja|model)", re.IGNORECASE)
_MAX_WAYS = 4
"""Each costs a request."""


class Place(NamedTuple):
    """A place in a repository: a revision, None for its main branch, and a folder, None for the top."""

    revision: str | None = None
    folder: str | None = None


WHOLE = (Place(),)


def hub_endpoint() -> str:
    return os.environ.get("HF_ENDPOINT") or _PUBLIC_HUB


def repo_from_url(url: str, endpoint: str) -> tuple[str, tuple[Place, ...]] | None:
    """(repo id, places to try) when the URL is a page of the hub on a model, a folder in it or one of its files; None
    for anything else, such as an archive that lies in a repository."""
    parts, hub = urlsplit(url), urlsplit(endpoint)
    if parts.netloc not in (*_HOSTS, hub.netloc):
        return None
    names = [unquote(name) for name in parts.path.strip("/").split("/")]
    repo, page, rest = "/".join(names[:2]).removesuffix(".git"), names[2] if len(names) > 2 else "", names[3:]
    if not _REPO.fullmatch(repo) or ".." in repo or names[0] in ("datasets", "spaces"):
        return None
    if page == "tree":
        return repo, _either(rest) if rest else WHOLE
    if page == "commit" and len(rest) == 1:
        return repo, (Place(rest[0]),)
    if page in _PAGES_OF_FILES and len(rest) > 1 and _MODEL_FILE.fullmatch(rest[-1]):
        return repo, _either(rest[:-1])
    return None if page else (repo, WHOLE)


def places_of(folder: str, ref: str | None) -> tuple[Place, ...]:
    """Return the places that `org/name<folder>@<ref>` may mean: a revision may have slashes, as in refs/pr/1, or be
    followed by a folder."""
    inside = folder.strip("/") or None
    if ref is None:
        return (Place(None, inside),)
    if inside is not None:
        return (Place(ref, inside),)
    return tuple(reversed(_either(ref.split("/"))))


def _either(names: list[str]) -> tuple[Place, ...]:
    """Return every way to read a path as a revision and a folder, the shortest revision first."""
    ends = [end for end in range(1, len(names) + 1) if end <= _MAX_WAYS or end == len(names)]
    return tuple(Place("/".join(names[:end]), "/".join(names[end:]) or None) for end in ends)


@dataclass(frozen=True)
class HubRepo:
    """A repository of the hub. Without a `token` access is anonymous, unless the `operator_login` on this machine may
    be used. Of the `places` the first counts whose revision exists."""

    repo: str
    places: tuple[Place, ...]
    endpoint: str
    token: str | None = field(default=None, repr=False)
    operator_login: bool = False

    @property
    def label(self) -> str:
        revision, folder = self.places[0]
        return self.repo + (f"@{revision}" if revision else "") + (f"/{folder}" if folder else "")

    def fetch(
        self, workspace: Path, into: Path, kind: ModelKind | None, transfer: Transfer, subfolder: str | None = None
    ) -> ModelKind:
        """Fetch only the files a model of this kind needs, all of one commit."""
        from huggingface_hub import hf_hub_download

        with readable_errors(self.label):
            place, commit, sizes = self._find()
            folder = "/".join(filter(None, [place.folder, (subfolder or "").strip("/")]))
            found, wanted = pick(sizes, kind, folder or None)
            total = sum(sizes[name] for name in wanted)
            transfer.begin(f"downloading {self.repo} at {commit[:12]}", total, found)
            check_room(workspace, total)
            for name, target in sorted(wanted.items()):
                file = hf_hub_download(
                    self.repo,
                    name,
                    revision=commit,
                    local_dir=workspace / "hub",
                    endpoint=self.endpoint,
                    token=self._token,
                    tqdm_class=_progress(transfer),
                )
                Path(file).rename(into / target)
        return found

    def look_up(self, timeout: float = 20) -> tuple[str, dict[str, int]]:
        """(commit, file name → bytes). Raises huggingface_hub's errors."""
        return self._find(timeout)[1:]

    def _find(self, timeout: float = 20) -> tuple[Place, str, dict[str, int]]:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RevisionNotFoundError

        api = HfApi(endpoint=self.endpoint, token=self._token)
        for place in self.places:
            try:
                info = api.model_info(self.repo, revision=place.revision, files_metadata=True, timeout=timeout)
            except RevisionNotFoundError:
                if place is self.places[-1]:
                    raise
                continue
            files = {file.rfilename: file.size or 0 for file in info.siblings or []}
            return place, str(info.sha), {name: size for name, size in files.items() if stays_inside(name)}
        raise AssertionError("a repository has at least one place")

    def read_small(self, name: str, commit: str, workspace: Path) -> Path:
        """Download one small file of the repository, e.g. config.json. Raises huggingface_hub's errors."""
        from huggingface_hub import hf_hub_download

        return Path(
            hf_hub_download(
                self.repo, name, revision=commit, local_dir=workspace, endpoint=self.endpoint, token=self._token
            )
        )

    @property
    def _token(self) -> str | bool | None:
        return None if self.operator_login else self.token or False


@contextmanager
def readable_errors(repo: str) -> Iterator[None]:
    """The hub client's errors as BadRequest; their own texts may carry signed URLs."""
    from huggingface_hub import errors

    # Which HTTP library the hub client stands on changed between its versions.
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    try:
        yield
    except LoradockError:
        raise
    except errors.GatedRepoError as error:
        raise BadRequest(
            f"{repo} is gated: accept its terms on the hub and give an hf_token that may read it"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise BadRequest(f"{repo} does not exist on the hub, or is private: check it, or give an hf_token") from error
    except errors.RevisionNotFoundError as error:
        raise BadRequest(f"{repo} has no such revision on the hub") from error
    except errors.HFValidationError as error:
        raise BadRequest(f"{repo!r} is not a Hugging Face repo id") from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "an error")
        raise BadRequest(
            f"the Hugging Face hub answered {status} for {repo}: check the hf_token, or try later"
        ) from error
    except (HTTPError, errors.LocalEntryNotFoundError, ConnectionError) as error:
        raise BadRequest(
            f"the Hugging Face hub cannot be reached for {repo}: check the network, or upload files"
        ) from error


def _progress(transfer: Transfer) -> Any:
    from huggingface_hub.utils.tqdm import tqdm

    class Progress(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            transfer.advance(int(n or 0))
            return None

    return Progress
