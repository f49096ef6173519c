"""The adapters registered in this engine, by name: read off the compute thread, unloaded when nobody uses them."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from loradock.engine.adapters.lora import LoadedAdapter
from loradock.engine.adapters.residency import AdapterMemory, Registered
from loradock.engine.errors import AdapterUnreadable, UnknownModel
from loradock.types.enums import AdapterTier
from loradock.types.errors import BadRequest, reason_of

Active = Callable[[], frozenset[int]]


@dataclass(eq=False)
class Lease:
    """A request's hold on what it runs on; `adapter` None is the base model."""

    name: str
    adapter: LoadedAdapter | None
    _release: Callable[[], None] | None = None

    def release(self) -> None:
        """Harmless when repeated."""
        release, self._release = self._release, None
        if release is not None:
            release()


class Adapters:
    """Names → folders, any number. An unloaded name is free at once, while the last requests of its load still run.

    `active` gives the load ids of the adapters that take part in the current steps.
    """

    def __init__(self, base_names: list[str], memory: AdapterMemory, active: Active, *, enabled: bool) -> None:
        self.base_names = base_names
        self.memory = memory
        self._active = active
        self._enabled = enabled
        self._entries: dict[str, Registered] = {}
        self._draining: dict[str, Registered] = {}
        self._arriving: dict[str, tuple[Path, asyncio.Task[None]]] = {}

    @property
    def draining(self) -> int:
        return len(self._draining)

    def listing(self) -> Iterator[tuple[str, Path, AdapterTier]]:
        """Name, folder and tier of each."""
        active = self._active()
        for name, entry in self._entries.items():
            if entry.adapter is None:
                yield name, entry.path, AdapterTier.DISK
            else:
                yield name, entry.path, AdapterTier.ACTIVE if entry.adapter.load_id in active else AdapterTier.RAM

    async def lease(self, model: str) -> Lease:
        """Reads an adapter that is only on disk. Raises UnknownModel (a wrong name never answers as the base model)
        and AdapterUnreadable.
        """
        if model in self.base_names:
            return Lease(self.base_names[0], None)
        entry = self._entries.get(model)
        if entry is None:
            raise UnknownModel(name=model, param="model")
        self.memory.pin(entry)
        try:
            adapter = await self.memory.ensure_loaded(entry)
        except Exception as error:
            self.memory.release(entry)
            raise AdapterUnreadable(name=model, reason=reason_of(error)) from error
        except BaseException:
            self.memory.release(entry)
            raise
        return Lease(model, adapter, lambda: self.memory.release(entry))

    async def load(self, name: str, path: Path, *, lazy: bool = False) -> None:
        """Loading the same name from the same path again is a success. Raises BadRequest with the reason.

        `lazy` only looks at the folder: the first request reads the tensors.
        """
        self._check(name, path)
        if name not in self._entries:
            await asyncio.shield(self._arrive(name, path, lazy=lazy))
        entry = self._entries.get(name)
        if entry is not None and not lazy:
            await self._read(entry)

    async def unload(self, name: str) -> None:
        """New requests for the name fail at once; returns when its last request is done and its memory is free."""
        entry = self._entries.pop(name, None)
        if entry is None:
            draining = self._draining.get(name)
            if draining is None:
                raise UnknownModel(name=name, param="lora_name")
            await draining.gone.wait()
            return
        self._draining[name] = entry
        await entry.idle.wait()
        await self.memory.drop(entry)
        entry.gone.set()
        if self._draining.get(name) is entry:
            del self._draining[name]

    def _check(self, name: str, path: Path) -> None:
        if not self._enabled:
            raise BadRequest("this engine runs with LoRA switched off (--disable-lora): it loads no adapters")
        if name in self.base_names:
            raise BadRequest(f"{name!r} is a name of the base model: load the adapter under another", param="lora_name")
        entry, arriving = self._entries.get(name), self._arriving.get(name)
        present = entry.path if entry else arriving[0] if arriving else path
        if present != path:
            raise BadRequest(
                f"{name!r} is loaded from {present}: unload it first, or load under another name", param="lora_name"
            )

    def _arrive(self, name: str, path: Path, *, lazy: bool) -> "asyncio.Task[None]":
        """A task, shared by those who load the same name, that goes on when the client has left."""
        if name not in self._arriving:
            task = asyncio.create_task(self._register(Registered(name, path), lazy=lazy))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._arriving[name] = path, task
        return self._arriving[name][1]

    async def _register(self, entry: Registered, *, lazy: bool) -> None:
        try:
            if lazy:
                await asyncio.to_thread(self.memory.check, entry.path)
            else:
                await self._read(entry)
            self._entries[entry.name] = entry
        finally:
            del self._arriving[entry.name]

    async def _read(self, entry: Registered) -> None:
        self.memory.pin(entry)
        try:
            await self.memory.ensure_loaded(entry)
        finally:
            self.memory.release(entry)
