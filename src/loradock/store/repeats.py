"""Logging what fails again and again: once, then how often."""

import logging
import time
from dataclasses import dataclass

_EVERY_S = 60.0


@dataclass(slots=True)
class _Failing:
    reason: str
    told: float
    times: int = 0


class Repeats:
    """Failures by what was tried. The first of a kind is logged, further ones are counted and told once a minute, and
    that it works again."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._failing: dict[str, _Failing] = {}

    def failed(self, what: str, error: BaseException, *, traceback: bool = False) -> None:
        """`what` reads before "failed"."""
        reason, now = f"{type(error).__name__}: {error}".partition("\n")[0], time.monotonic()
        known = self._failing.get(what)
        if known is None or known.reason != reason:
            self._failing[what] = _Failing(reason, now)
            self._log.error("%s failed and is tried again: %s", what, reason, exc_info=error if traceback else None)
            return
        known.times += 1
        if now - known.told >= _EVERY_S:
            self._log.error("%s failed %d more times: %s", what, known.times, reason)
            known.told = now
            known.times = 0

    def worked(self, what: str) -> None:
        if self._failing.pop(what, None) is not None:
            self._log.info("%s works again", what)
