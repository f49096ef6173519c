"""The adapters loaded in this engine, by name: loading off the compute thread, unloading when idle."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from loradock.checkpoints.architecture import Architecture
from loradock.engine.lora import LoadedAdapter, load_adapter
from loradock.types.errors import BadRequest, NotFound


class UnknownModel(NotFound):
    """The model {name!r} is not served here."""

    code = "model_not_found"


class AdapterTable:
    """Names → loads. An unloaded name is free at once, while its last requests still run."""

    def __init__(
        self,
        base_names: list[str],
        architecture: Architecture,
        dtype: torch.dtype,
        *,
        enabled: bool,
        max_loras: int,
        max_rank: int,
        forget: Callable[[LoadedAdapter], None],
    ) -> None:
        self.base_names, self._architecture, self._dtype = base_names, architecture, dtype
        self._enabled, self._max_loras, self._max_rank = enabled, max_loras, max_rank
        self._forget = forget
        self.loaded: dict[str, LoadedAdapter] = {}
        self._users: Counter[int] = Counter()
        self._idle: dict[int, asyncio.Event] = {}
        self._loading = asyncio.Lock()

    def resolve(self, model: str) -> LoadedAdapter | None:
        """None for the base model. Raises UnknownModel: a wrong name never answers as the base."""
        if model in self.base_names:
            return None
        if model not in self.loaded:
            raise UnknownModel(name=model, param="model")
        return self.loaded[model]

    @contextlib.contextmanager
    def in_use(self, adapter: LoadedAdapter | None) -> Iterator[None]:
        """Keeps an adapter from being freed while a request runs."""
        if adapter is None:
            yield
            return
        self._users[adapter.load_id] += 1
        try:
            yield
        finally:
            self._users[adapter.load_id] -= 1
            if self._users[adapter.load_id] == 0:
                del self._users[adapter.load_id]
                if waiting := self._idle.pop(adapter.load_id, None):
                    waiting.set()

    async def load(self, name: str, path: Path) -> None:
        """Loading the same name from the same path again is a success. Raises BadRequest with the reason."""
        async with self._loading:
            present = self.loaded.get(name)
            if present is not None and present.path == path:
                return
            self._check_room(name, present)
            adapter = await asyncio.to_thread(load_adapter, name, path, self._architecture, self._dtype)
            if adapter.config.max_rank > self._max_rank:
                raise BadRequest(
                    f"the adapter's rank {adapter.config.max_rank} is above this engine's limit of {self._max_rank}"
                )
            self.loaded[name] = adapter

    def _check_room(self, name: str, present: LoadedAdapter | None) -> None:
        if not self._enabled:
            raise BadRequest("LoRA is switched off in this engine")
        if present is not None or name in self.base_names:
            raise BadRequest(f"the name {name!r} is taken by {present.path if present else 'the base model'}")
        if len(self.loaded) >= self._max_loras:
            raise BadRequest(f"{len(self.loaded)} adapters are loaded, as many as this engine holds; unload one first")

    async def unload(self, name: str) -> None:
        """New requests for the name fail at once; returns when its last request is done and it is freed."""
        adapter = self.loaded.pop(name, None)
        if adapter is None:
            raise UnknownModel(name=name, param="lora_name")
        if self._users[adapter.load_id]:
            idle = self._idle.setdefault(adapter.load_id, asyncio.Event())
            await idle.wait()
        self._forget(adapter)
