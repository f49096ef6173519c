"""Logs of lost replicas, kept for whoever looks for the reason."""

from collections import deque

from loradock.replicas.launcher import Launcher

_KEPT = 5


class LostLogs:
    """Logs of lost replicas: those of the last few stay until the next start of the server."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._kept: deque[str] = deque()

    @property
    def replica_ids(self) -> list[str]:
        return list(self._kept)

    def keep(self, replica_id: str) -> None:
        self._kept.append(replica_id)
        while len(self._kept) > _KEPT:
            self._launcher.discard(self._kept.popleft())
