"""The adapters loaded in this engine, by name: loaded off the compute thread, unloaded when nobody uses them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from loradock.checkpoints.adapter import read_adapter_config
from loradock.engine.errors import UnknownModel
from loradock.engine.lora import LoadedAdapter
from loradock.types.errors import AdapterRefused, BadRequest

Load = Callable[[str, Path], LoadedAdapter]
Forget = Callable[[LoadedAdapter], Awaitable[None]]


@dataclass(eq=False)
class Lease:
    """A request's hold on what it runs on; `adapter` None is the base model."""

    name: str
    adapter: LoadedAdapter | None
    _resident: "_Resident | None" = None

    def release(self) -> None:
        """Harmless when repeated."""
        resident, self._resident = self._resident, None
        if resident is not None:
            resident.release()


@dataclass(eq=False)
class _Resident:
    adapter: LoadedAdapter
    users: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.idle.set()

    def hold(self) -> None:
        self.users += 1
        self.idle.clear()

    def release(self) -> None:
        self.users -= 1
        if self.users == 0:
            self.idle.set()


class Adapters:
    """Names → loads. An unloaded name is free at once, while the last requests of its old load still run."""

    def __init__(
        self, base_names: list[str], load: Load, forget: Forget, *, enabled: bool, max_loras: int, max_rank: int
    ) -> None:
        self.base_names = base_names
        self._load, self._forget = load, forget
        self._enabled, self._max_loras, self._max_rank = enabled, max_loras, max_rank
        self._residents: dict[str, _Resident] = {}
        self._draining: dict[str, _Resident] = {}
        self._loading = asyncio.Lock()

    @property
    def loaded(self) -> dict[str, LoadedAdapter]:
        return {name: resident.adapter for name, resident in self._residents.items()}

    @property
    def draining(self) -> int:
        return len(self._draining)

    def lease(self, model: str) -> Lease:
        """Raises UnknownModel: a wrong name never answers as the base model."""
        if model in self.base_names:
            return Lease(self.base_names[0], None)
        resident = self._residents.get(model)
        if resident is None:
            raise UnknownModel(name=model, param="model")
        resident.hold()
        return Lease(model, resident.adapter, resident)

    async def load(self, name: str, path: Path) -> None:
        """Loading the same name from the same path again is a success. Raises BadRequest with the reason."""
        async with self._loading:
            present = self._residents.get(name)
            if present is not None and present.adapter.path == path:
                return
            self._check_room(name, present)
            adapter = await asyncio.to_thread(self._read, name, path)
            self._residents[name] = _Resident(adapter)

    async def unload(self, name: str) -> None:
        """New requests for the name fail at once; returns when its last request is done and its memory is free."""
        resident = self._residents.pop(name, None)
        if resident is None:
            draining = self._draining.get(name)
            if draining is None:
                raise UnknownModel(name=name, param="lora_name")
            await draining.gone.wait()
            return
        self._draining[name] = resident
        await resident.idle.wait()
        await self._forget(resident.adapter)
        resident.gone.set()
        if self._draining.get(name) is resident:
            del self._draining[name]

    def _check_room(self, name: str, present: _Resident | None) -> None:
        if not self._enabled:
            raise BadRequest("this engine runs with LoRA switched off (--disable-lora): it loads no adapters")
        if name in self.base_names:
            raise BadRequest(f"{name!r} is a name of the base model: load the adapter under another", param="lora_name")
        if present is not None:
            raise BadRequest(
                f"{name!r} is loaded from {present.adapter.path}: unload it first, or load under another name",
                param="lora_name",
            )
        if len(self._residents) >= self._max_loras:
            raise BadRequest(
                f"{len(self._residents)} of at most {self._max_loras} adapters are loaded: unload one first,"
                " or start the engine with a larger --max-loras"
            )

    def _read(self, name: str, path: Path) -> LoadedAdapter:
        if not path.is_dir():
            raise AdapterRefused(f"there is no folder {path}", param="lora_path")
        rank = read_adapter_config(path).max_rank
        if rank > self._max_rank:
            raise AdapterRefused(
                f"the adapter has rank {rank}; this engine takes up to {self._max_rank}"
                " (start it with a larger --max-lora-rank)"
            )
        return self._load(name, path)
