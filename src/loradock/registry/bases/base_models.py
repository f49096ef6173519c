"""Base models by name: built in, uploaded, under the import root, downloaded before, or on the hub."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from sqlalchemy import ColumnElement, or_, select

from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.base_config import read_architecture
from loradock.registry.bases.base_downloads import BaseDownloads, Progress
from loradock.registry.bases.base_folders import base_at, hub_cached, names_below
from loradock.registry.bases.builtin import BUILTIN, INSTALL_HINT, builtin_file
from loradock.registry.blobs import Blobs
from loradock.registry.sources.import_root import inside
from loradock.registry.transfer import Limits
from loradock.store.database import Database
from loradock.store.tables import Account, Model
from loradock.types.enums import ModelKind, ModelState
from loradock.types.errors import BadRequest
from loradock.types.names import is_base_name

_T = TypeVar("_T")


class Origin(StrEnum):
    UPLOADED = "uploaded"
    IMPORT_ROOT = "import root"
    DOWNLOADED = "downloaded"
    BUILT_IN = "built in"
    HUB_CACHE = "hub cache"


@dataclass(frozen=True)
class LocalBaseModel:
    """A base model that is on this machine: `path` is a Hugging Face folder or a .gguf file."""

    name: str
    origin: Origin
    path: Path


class BaseModels:
    """`account` is an account's id or slug everywhere; another account's uploads are not seen."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        data_dir: Path,
        import_root: Path | None = None,
        hub: str | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._import_root = import_root
        self._downloads = BaseDownloads(data_dir / "bases", blobs, hub, limits or Limits())
        self._architectures: dict[tuple[Path, int], Architecture] = {}

    def find(self, name: str, account: str) -> LocalBaseModel | None:
        """The base model of that name if it is on this machine."""
        if not is_base_name(name):
            return None
        for origin, path in self._places(name, account):
            if path is not None:
                return LocalBaseModel(name, origin, path)
        return None

    def architecture(self, name: str, account: str) -> Architecture | None:
        """Return the architecture without loading or downloading anything. Raises BadRequest for a family that is not
        served, and for one whose files are lost."""
        found = self.find(name, account)
        if found is None:
            return None
        try:
            key = (found.path, found.path.stat().st_mtime_ns)
        except FileNotFoundError as error:
            raise BadRequest(
                f"the files of {name} are missing on the server: upload it again", param="model"
            ) from error
        if key not in self._architectures:
            self._architectures[key] = read_architecture(found.path)
        return self._architectures[key]

    def check(self, name: str, account: str) -> None:
        """Raises BadRequest unless an endpoint could run this: on this machine or the hub, of a served family."""
        self._check_name(name)
        if self.architecture(name, account) is None:
            self._explained(name, account, lambda: self._downloads.check(name))

    def resolve(self, name: str, account: str, progress: Progress = lambda _message: None) -> Path:
        """The folder or .gguf file, downloaded first if need be (minutes). Raises BadRequest."""
        self._check_name(name)
        found = self.find(name, account)
        return found.path if found else self._explained(name, account, lambda: self._downloads.fetch(name, progress))

    def at_hand(self, account: str) -> list[LocalBaseModel]:
        """Return every base model on this machine, by name."""
        with self._database.session() as session:
            names = {*session.scalars(select(Model.name).join(Account).where(*_uploaded_by(account)))}
        names |= names_below(self._downloads.root)
        if self._import_root is not None:
            names |= names_below(self._import_root)
        if builtin_file() is not None:
            names.add(BUILTIN)
        return [base for name in sorted(names) if (base := self.find(name, account)) is not None]

    def _places(self, name: str, account: str) -> Iterator[tuple[Origin, Path | None]]:
        yield Origin.UPLOADED, self._uploaded(name, account)
        yield Origin.IMPORT_ROOT, self._imported(name)
        yield Origin.DOWNLOADED, self._downloads.find(name)
        if name == BUILTIN:
            yield Origin.BUILT_IN, builtin_file()
        yield Origin.HUB_CACHE, hub_cached(name)

    def _uploaded(self, name: str, account: str) -> Path | None:
        with self._database.session() as session:
            query = select(Model).join(Account).where(Model.name == name, *_uploaded_by(account))
            model = session.scalar(query)
            return self._blobs.path(model.revisions[-1].digest) if model else None

    def _imported(self, name: str) -> Path | None:
        if self._import_root is None:
            return None
        try:
            return base_at(inside(self._import_root, Path(name)))
        except BadRequest:
            return None

    @staticmethod
    def _check_name(name: str) -> None:
        if not is_base_name(name):
            raise BadRequest(f"model {name!r} is not a valid model name: give one like Org/Model", param="model")

    def _explained(self, name: str, account: str, attempt: Callable[[], _T]) -> _T:
        try:
            return attempt()
        except BadRequest as error:
            known = ", ".join(base.name for base in self.at_hand(account)) or "none"
            hint = f" ({INSTALL_HINT})" if name == BUILTIN else ""
            message = f"model {name} cannot be served: {error.message}{hint}. Base models on this machine: {known}"
            raise BadRequest(message, param="model") from error


def _uploaded_by(account: str) -> tuple[ColumnElement[bool], ...]:
    mine = or_(Account.id == account, Account.slug == account)
    return mine, Model.kind == ModelKind.MODEL, Model.state == ModelState.READY
