"""Finding a deployment's base model, which may mean downloading it, in a thread of its own."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

from loradock.types.errors import LoradockError, reason_of

Progress = Callable[[str], None]
ResolveBase = Callable[[str, str, Progress], Path]
"""(base model name, account slug, progress) → folder or .gguf file; may take minutes. Raises LoradockError."""


class BaseResolution:
    """A resolution under way. `progress` is its newest word, `path` or `failure` its end."""

    def __init__(self, resolve: ResolveBase, base_model: str, account: str, changed: Callable[[], None]) -> None:
        self.progress = f"looking for {base_model}"
        self.path: Path | None = None
        self.failure: str | None = None
        self._loop = asyncio.get_running_loop()
        self._changed = changed
        # A daemon: a download must not hold up the end of the server.
        thread = threading.Thread(target=self._run, args=(resolve, base_model, account), daemon=True)
        thread.start()

    def _run(self, resolve: ResolveBase, base_model: str, account: str) -> None:
        try:
            self.path = resolve(base_model, account, self._note)
        except LoradockError as error:
            self.failure = error.message
        except Exception as error:
            self.failure = f"the base model {base_model} could not be made ready: {reason_of(error)}"
        self._tell()

    def _note(self, progress: str) -> None:
        self.progress = progress
        self._tell()

    def _tell(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed)
