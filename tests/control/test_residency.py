"""What a replica holds, when looks and loads overlap."""

import asyncio
from pathlib import Path

from loradock.control.replicas.residency import Residency, Wanted
from loradock.control.work import Locks


class SlowToList:
    """An engine whose list was made before a load that ends while the list is on its way."""

    def __init__(self) -> None:
        self.loaded: dict[str, str] = {}
        self.listing = asyncio.Event()
        self.go_on = asyncio.Event()

    async def adapters(self) -> dict[str, str]:
        listed = dict(self.loaded)
        self.listing.set()
        await self.go_on.wait()
        return listed

    async def load(self, name: str, path: Path, *, lazy: bool) -> None:
        self.loaded[name] = str(path)


async def test_a_look_does_not_forget_what_was_loaded_meanwhile():
    engine = SlowToList()

    async def wanted(name: str | None) -> Wanted:
        return Wanted({})

    residency = Residency(engine, Locks(), wanted)
    look = asyncio.create_task(residency.refresh())
    await engine.listing.wait()
    await residency.load("alice/pirate", Path("/blobs/one"))
    engine.go_on.set()
    await look
    assert residency.held == {"alice/pirate": Path("/blobs/one")}
