"""An adapter and its base model meet: it is held against the base, and written as every engine reads it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from loradock.checkpoints.adapters.embedding_tables import compare_tables
from loradock.checkpoints.adapters.inspection import (
    AdapterReport,
    check_shapes,
    inspect_adapter,
    read_files,
    understand,
)
from loradock.checkpoints.adapters.packed import PACKED_FILE
from loradock.checkpoints.adapters.plain import is_plain, write_plain
from loradock.registry.bases.base_models import BaseModels, LocalBaseModel
from loradock.registry.blobs import DERIVED, Blobs
from loradock.registry.packed import keep_packed
from loradock.store.database import Database
from loradock.store.events import record
from loradock.store.models import find_model
from loradock.store.tables import Attachment, Model, Revision
from loradock.types.enums import ModelKind, ModelState
from loradock.types.errors import AdapterRefused, BadRequest, ModelMissing
from loradock.types.names import is_base_name, same_base_model, without_lora_suffix

_FITTING_SHOWN = 8
_LONGEST_NAME = 200


class SeenBases:
    """The base models one account sees. One of a family that is not served fits nothing."""

    def __init__(self, bases: BaseModels, account: str) -> None:
        self._bases = bases
        self._account = account

    def find(self, name: str) -> LocalBaseModel | None:
        """Find a base model by this very name, or a known copy of it that is at hand under another."""
        exact = self._bases.find(name, self._account)
        if exact is not None:
            return exact
        return next((base for base in self._bases.at_hand(self._account) if same_base_model(base.name, name)), None)

    def fitting(self, report: AdapterReport, folder: Path, named: str = "") -> list[str]:
        """Names of those whose shapes the adapter has, the one most like what it `named` first."""
        fits = [base.name for base in self._bases.at_hand(self._account) if self._fits(base, report, folder)]
        wanted = named[-_LONGEST_NAME:].lower().rpartition("/")[2]
        return sorted(fits, key=lambda name: -SequenceMatcher(None, wanted, name.lower().rpartition("/")[2]).ratio())

    def check(self, base: LocalBaseModel, report: AdapterReport, folder: Path) -> list[str]:
        """Remarks. Raises AdapterRefused for an adapter that does not fit, BadRequest for a base that is not served."""
        architecture = self._bases.architecture(base.name, self._account)
        if architecture is None:  # deleted this very moment
            return []
        remarks = check_shapes(report, folder, architecture)
        return [*remarks, *(compare_tables(folder, report, base.path, architecture) if report.tables else [])]

    def _fits(self, base: LocalBaseModel, report: AdapterReport, folder: Path) -> bool:
        try:
            architecture = self._bases.architecture(base.name, self._account)
            if architecture is None:
                return False
            check_shapes(report, folder, architecture)
        except BadRequest:
            return False
        return True


@dataclass(frozen=True)
class Settled:
    """`base_model` as it is called here; `fitting`: other base models at hand whose shapes fit."""

    report: AdapterReport
    base_model: str
    remarks: tuple[str, ...]
    at_hand: bool
    fitting: tuple[str, ...] = ()


def settle(folder: Path, base_name: str, bases: SeenBases) -> Settled:
    """Check an adapter's staged files against their base if that is at hand, and write them as every engine reads them,
    unless something has to wait for the base. Raises AdapterRefused."""
    report = inspect_adapter(folder, None)
    base = bases.find(base_name)
    remarks = list(report.remarks)
    if base is not None:
        remarks += bases.check(base, report, folder)
        if not same_name(base.name, base_name):
            remarks.insert(0, f"{base_name} is a copy of {base.name}, which is here")
    elif report.tables:
        remarks.append(f"{', '.join(report.tables)}: to be compared with the base model's when the adapter is attached")
    if (base is not None or not report.tables) and not is_plain(report):
        write_plain(folder, report)
    name = base.name if base is not None else base_name
    fitting = () if base is not None else tuple(bases.fitting(report, folder, base_name))
    return Settled(report, name, tuple(remarks), base is not None, fitting)


def same_name(one: str, other: str) -> bool:
    return without_lora_suffix(one).lower() == without_lora_suffix(other).lower()


def fitting_hint(names: tuple[str, ...] | list[str]) -> str:
    """Return what an adapter fits by its shapes, for messages; the likeliest first."""
    if not names:
        return "by its shapes it fits none of the base models here"
    more = f" and {len(names) - _FITTING_SHOWN} more" if len(names) > _FITTING_SHOWN else ""
    return f"by its shapes it fits {', '.join(names[:_FITTING_SHOWN])}{more}"


class Settler:
    """Settles adapters that are published already: when they are attached, and when their base is corrected."""

    def __init__(self, database: Database, blobs: Blobs, bases: BaseModels) -> None:
        self._database = database
        self._blobs = blobs
        self._bases = bases

    def for_attach(self, account_id: str, model_id: str, folder: Path, base_name: str, *, look: bool) -> Path:
        """The folder to load, `folder` unless it had to be written anew. What was packed at the upload is plain: it is
        only looked at where `look` says that the engine does not check shapes itself. Raises AdapterRefused."""
        if not look and (folder / PACKED_FILE).is_file():
            return folder
        bases = SeenBases(self._bases, account_id)
        base = bases.find(base_name)
        if base is None:
            return folder
        report = understand(read_files(folder), None)
        remarks = bases.check(base, report, folder)
        if is_plain(report):
            return folder
        with self._copied(folder) as draft:
            write_plain(draft, report)
            keep_packed(draft)
            return self._publish(account_id, model_id, folder, draft, "; ".join(remarks))

    def fitting(self, account_id: str, adapter: Model) -> list[str]:
        """Base models at hand whose shapes a published adapter has, the likeliest first."""
        folder, bases = self._blobs.path(adapter.revisions[-1].digest), SeenBases(self._bases, account_id)
        try:
            report = understand(read_files(folder), None)
        except (AdapterRefused, OSError):  # damaged or gone since
            return []
        return bases.fitting(report, folder, adapter.base_model or "")

    def change_base(self, account_id: str, name: str, base_name: str) -> str:
        """Say of an adapter that it is for another base model; what was found. Raises BadRequest, ModelMissing, and
        AdapterRefused when it does not fit; then nothing is changed."""
        if not is_base_name(base_name):
            raise BadRequest(
                f"base_model {base_name!r} is not a valid model name: give one like Org/Model", param="base_model"
            )
        wanted = without_lora_suffix(base_name)
        bases = SeenBases(self._bases, account_id)
        with self._database.session() as session:
            model = _free_adapter(session, account_id, name)
            folder = self._blobs.path(model.revisions[-1].digest)
        base = bases.find(wanted)
        found = f"{wanted} is not here: the shapes will be checked when it is attached"
        if base is not None:
            report = understand(read_files(folder), None)
            remarks = bases.check(base, report, folder)
            wanted = base.name
            found = "; ".join([f"shapes agree with {wanted}", *remarks])
        with self._database.session() as session:
            model = _free_adapter(session, account_id, name)
            before, model.base_model = model.base_model, wanted
            message = f"{model.name} is for {wanted} now, before for {before}; {found}"
            record(session, account_id, model.id, "model.base_changed", message)
        return found

    @contextmanager
    def _copied(self, folder: Path) -> Iterator[Path]:
        workspace = self._blobs.stage()
        draft = workspace / "files"
        draft.mkdir()
        try:
            for file in folder.iterdir():
                if not file.name.startswith(DERIVED):
                    shutil.copyfile(file, draft / file.name)
            yield draft
        finally:
            shutil.rmtree(workspace, ignore_errors=True)

    def _publish(self, account_id: str, model_id: str, before: Path, draft: Path, remarks: str) -> Path:
        """Publish the draft in place of the adapter's files as they were uploaded, which say the same."""
        with self._blobs.lock:
            digest, size = self._blobs.publish(draft)
            with self._database.session() as session:
                query = select(Revision).where(Revision.model_id == model_id, Revision.digest == before.name)
                for revision in session.scalars(query):
                    revision.digest = digest
                    revision.size_bytes = size
                record(session, account_id, model_id, "model.settled", f"written as every engine reads it: {remarks}")
                session.flush()
                shared = session.scalar(select(Revision.id).where(Revision.digest == before.name)) is not None
            if not shared:
                self._blobs.free(before.name)
        return self._blobs.path(digest)


def _free_adapter(session: Session, account_id: str, name: str) -> Model:
    """Raises ModelMissing, and BadRequest for what is not an adapter or is in use."""
    model = find_model(session, account_id, name)
    if model is None:
        raise ModelMissing(param="model")
    if model.kind is not ModelKind.ADAPTER or model.state is not ModelState.READY:
        raise BadRequest(f"{model.name} is not an adapter that is ready: only such a one has a base model to correct")
    attached = session.scalar(select(Attachment).where(Attachment.model_id == model.id))
    if attached is not None:
        where = attached.deployment.endpoint.name
        raise BadRequest(
            f"{model.name} is attached to {where}, or is being removed from it: remove it there first",
            param="base_model",
        )
    return model
