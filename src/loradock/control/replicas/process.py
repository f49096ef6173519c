"""A replica's process: launched, or found again; asked whether it lives; terminated."""

import asyncio
import time

from loradock.checkpoints.memory_plan import MemoryPlan
from loradock.replicas.launcher import Ending, Instance, Launcher, ProcessUse, ReplicaSpec
from loradock.types.enums import Fate

_POLL_S = 0.1


class ReplicaEnded(Exception):
    """The replica is of no more use; the text says why."""

    def __init__(self, why: str, fate: Fate = Fate.UNKNOWN) -> None:
        super().__init__(why)
        self.fate = fate


class ReplicaProcess:
    """Launched by `spec`; without one, what already runs is adopted. `plan`: how much memory it was, or will be,
    started to take."""

    def __init__(self, launcher: Launcher, replica_id: str, spec: ReplicaSpec | None) -> None:
        self.plan: MemoryPlan | None = spec.memory if spec else None
        self._launcher = launcher
        self._id = replica_id
        self._spec = spec
        self._instance: Instance | None = None
        self._obtained = asyncio.Event()

    async def obtain(self) -> Instance:
        """Raises ReplicaEnded when there is none to adopt."""
        try:
            self._instance = await asyncio.to_thread(self._launch_or_find)
        finally:
            self._obtained.set()
        return self._instance

    async def obtained(self) -> None:
        """Returns once `obtain` has ended. Whoever cancels it before leaves a process that nobody has seen."""
        await self._obtained.wait()

    def use(self) -> ProcessUse:
        """Return what it takes of this machine; nothing once it is gone. Blocks."""
        return self._instance.use() if self._instance else ProcessUse()

    def check_alive(self) -> None:
        """Raises ReplicaEnded."""
        if self._instance is not None and not self._instance.alive():
            ending = self._instance.ending()
            raise ReplicaEnded(ending.reason, ending.fate)

    async def ending(self, patience: float) -> Ending | None:
        """Return why it ended, if it has or does so within `patience` seconds."""
        deadline = time.monotonic() + patience
        while self._instance is not None:
            if not self._instance.alive():
                return self._instance.ending()
            if time.monotonic() >= deadline:
                return None
            await asyncio.sleep(_POLL_S)
        return None

    async def terminate(self, grace: float) -> None:
        if self._instance is not None:
            await asyncio.to_thread(self._instance.terminate, grace)

    def _launch_or_find(self) -> Instance:
        instance = self._launcher.launch(self._spec) if self._spec else self._launcher.find(self._id)
        if instance is None:
            raise ReplicaEnded("the replica was gone")
        self.plan = instance.plan
        return instance
