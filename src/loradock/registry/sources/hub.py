"""A repository on the Hugging Face hub, or on a server that speaks its protocol (HF_ENDPOINT)."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from loradock.registry.contents import pick
from loradock.registry.transfer import Transfer
from loradock.types.enums import ModelKind
from loradock.types.errors import BadRequest, LoradockError

_PUBLIC_HUB = "https://huggingface.co"
_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
_PATH = re.compile(r"/(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*?)(\.git)?(/tree/(?P<revision>[^?#]+?))?/?")


def hub_endpoint() -> str:
    return os.environ.get("HF_ENDPOINT") or _PUBLIC_HUB


def repo_from_url(url: str, endpoint: str) -> tuple[str, str | None] | None:
    """(repo id, revision) when the URL is a repository page of the hub; None for anything else."""
    parts, hub = urlsplit(url), urlsplit(endpoint)
    if parts.netloc not in (*_HOSTS, hub.netloc):
        return None
    match = _PATH.fullmatch(unquote(parts.path))
    return (match["id"], match["revision"]) if match and ".." not in match["id"] else None


@dataclass(frozen=True)
class HubRepo:
    """Without a `token` access is anonymous, unless the `operator_login` on this machine may be used."""

    repo: str
    revision: str | None
    endpoint: str
    token: str | None = field(default=None, repr=False)
    operator_login: bool = False

    @property
    def label(self) -> str:
        return f"{self.repo}@{self.revision}" if self.revision else self.repo

    def fetch(self, workspace: Path, into: Path, kind: ModelKind | None, transfer: Transfer) -> ModelKind:
        """Only the files a model of this kind needs, all of one commit."""
        from huggingface_hub import hf_hub_download

        with readable_errors(self.label):
            commit, sizes = self.look_up()
            found, wanted = pick([name for name in sizes if "/" not in name], kind)
            transfer.begin(f"downloading {self.repo} at {commit[:12]}", sum(sizes[name] for name in wanted), found)
            for name in sorted(wanted):
                file = hf_hub_download(
                    self.repo,
                    name,
                    revision=commit,
                    local_dir=workspace / "hub",
                    endpoint=self.endpoint,
                    token=self._token,
                    tqdm_class=_progress(transfer),
                )
                Path(file).rename(into / name)
        return found

    def look_up(self, timeout: float = 20) -> tuple[str, dict[str, int]]:
        """(commit, file name → bytes). Raises huggingface_hub's errors."""
        from huggingface_hub import HfApi

        info = HfApi(endpoint=self.endpoint, token=self._token).model_info(
            self.repo, revision=self.revision, files_metadata=True, timeout=timeout
        )
        return str(info.sha), {file.rfilename: file.size or 0 for file in info.siblings or []}

    def read_small(self, name: str, commit: str, workspace: Path) -> Path:
        """One small file of the repository, e.g. config.json. Raises huggingface_hub's errors."""
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
        raise BadRequest(f"{repo!r} is no Hugging Face repo id") from error
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
