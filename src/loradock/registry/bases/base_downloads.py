"""Base models from the hub, kept in `bases/` of the data folder."""

import shutil
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from loradock.checkpoints.base_config import read_architecture
from loradock.checkpoints.base_inspection import inspect_base
from loradock.registry.bases.base_folders import base_at
from loradock.registry.blobs import Blobs
from loradock.registry.contents import pick
from loradock.registry.sources.hub import WHOLE, HubRepo, hub_endpoint, readable_errors
from loradock.registry.transfer import Limits, Transfer, progress_text
from loradock.store.failures import room_on_disk
from loradock.types.enums import ModelKind

Progress = Callable[[str], None]
_LOOK_UP_SECONDS = 10.0


class BaseDownloads:
    """Downloads base models, each staged and published by one rename: a folder in `bases/` is always whole."""

    def __init__(self, root: Path, blobs: Blobs, hub: str | None, limits: Limits) -> None:
        self.root = root
        self._blobs = blobs
        self._hub = hub
        self._limits = limits
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def find(self, name: str) -> Path | None:
        return base_at(self.root / name)

    def check(self, name: str) -> None:
        """Whether the hub has it and the engine serves its family; reads only config.json. Raises BadRequest and
        StorageFull."""
        with room_on_disk():
            self._check(name)

    def _check(self, name: str) -> None:
        repo, workspace = self._repo(name), self._blobs.stage()
        try:
            with readable_errors(name):
                commit, files = repo.look_up(_LOOK_UP_SECONDS)
                pick([file for file in files if "/" not in file], ModelKind.MODEL)
                repo.read_small("config.json", commit, workspace)
            read_architecture(workspace)
        finally:
            shutil.rmtree(workspace, ignore_errors=True)

    def fetch(self, name: str, progress: Progress) -> Path:
        """Minutes. Several callers of the same name wait for one download. Raises BadRequest and StorageFull."""
        with self._locks[name], room_on_disk():
            return self.find(name) or self._download(name, progress)

    def _download(self, name: str, progress: Progress) -> Path:
        workspace = self._blobs.stage()
        files = workspace / "files"
        files.mkdir()
        target = self.root / name
        try:
            transfer = Transfer(lambda step, done, total: progress(progress_text(step, done, total)), self._limits)
            self._repo(name).fetch(workspace, files, ModelKind.MODEL, transfer)
            inspect_base(files)
            target.parent.mkdir(parents=True, exist_ok=True)
            files.rename(target)
        finally:
            shutil.rmtree(workspace, ignore_errors=True)
        return target

    def _repo(self, name: str) -> HubRepo:
        # Base models are the operator's choice of what to serve, so the operator's own hub login is used.
        return HubRepo(name, WHOLE, (self._hub or hub_endpoint()).rstrip("/"), operator_login=True)
