"""Whether a replica is alive: a state machine fed with what each check of it has found. The table: docs/liveness.md.

Nothing here asks a clock or a process: times come with the observations, in seconds of a clock that stands still while
this server does (`awake`).
"""

from dataclasses import dataclass
from enum import Enum, auto

from loradock.replicas.vitals import Answer


class Health(Enum):
    STARTING = auto()
    READY = auto()
    SUSPECT = auto()
    """Something is amiss: others are preferred."""
    UNREADY = auto()
    """It gets no new requests."""
    LOST = auto()
    """It is to be ended and replaced; nothing leads back from here."""


@dataclass(frozen=True, slots=True)
class Observation:
    """The result of one check."""

    at: float
    """The time when the check was sent."""
    until: float
    """The time when it ended."""
    answer: Answer = Answer.GOOD
    progressed: bool = True
    """Whether steps were computed since the check before."""
    working: bool = False
    """Whether work waits for them."""
    computing: bool = False
    """Whether processor time was used since the check before."""
    held: bool = False
    """Whether a signal keeps the process from running."""
    paused: bool = False
    """Whether this server itself stood still meanwhile."""
    gone: bool = False
    """Whether the process has ended."""
    why: str = ""
    """The error of a failed check."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Time limits in seconds. `unready`: without a good answer, or without progress, until no new requests are sent.
    `lost`: the same, without processor time used, until it is given up. `stretched`: until it is given up whatever it
    uses. `checks`: how many in a row it takes at least."""

    unready: float = 5.0
    lost: float = 60.0
    stretched: float = 300.0
    checks: int = 3


class Liveness:
    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self.health = Health.STARTING
        self.reason = ""
        """The reason why it is not READY."""
        self._started = False
        self._since: float | None = None
        self._bad = self._still = 0

    def started(self) -> None:
        """Note that it has computed its first token and holds what it should."""
        self._started = True
        if self.health is Health.STARTING:
            self.health = Health.READY

    def observe(self, seen: Observation) -> Health:
        if self.health is Health.LOST:
            return self.health
        if seen.gone:
            self.health, self.reason = Health.LOST, self.reason or "its process has ended"
        elif seen.paused:
            self._begin_anew()
        elif _is_good(seen):
            self._begin_anew()
            self.health = Health.READY if self._started else Health.STARTING
            self.reason = ""
        else:
            self._count(seen)
        return self.health

    def _begin_anew(self) -> None:
        """Forget what was seen before: it says nothing any more."""
        self._since = None
        self._bad = 0
        self._still = 0

    def _count(self, seen: Observation) -> None:
        if self._since is None:
            self._since = seen.at
        self._bad += 1
        self._still = 0 if seen.computing or seen.held else self._still + 1
        seconds = seen.until - self._since
        self.reason = _reason(seen, self._bad, seconds)
        if self._bad >= self._patience.checks and seconds >= self._until_lost():
            self.health = Health.LOST if self.health is Health.UNREADY else Health.UNREADY
        elif self._bad > 1 and seconds >= self._until_unready(seen):
            self.health = Health.UNREADY
        elif self.health is Health.READY and not _is_busy(seen):
            self.health = Health.SUSPECT

    def _until_unready(self, seen: Observation) -> float:
        """A step may take long: one that answers and computes is given more time."""
        return self._patience.lost if _is_busy(seen) else self._patience.unready

    def _until_lost(self) -> float:
        return self._patience.lost if self._still >= self._patience.checks else self._patience.stretched


def _is_good(seen: Observation) -> bool:
    return seen.answer is Answer.GOOD and (seen.progressed or not seen.working)


def _is_busy(seen: Observation) -> bool:
    return seen.answer is Answer.GOOD and seen.computing


def _reason(seen: Observation, checks: int, seconds: float) -> str:
    doing = "" if seen.computing else ", and uses no processor"
    if seen.held:
        doing = "; a signal or a debugger stops its process"
    if seen.answer is Answer.GOOD:
        return f"it has computed no step for {seconds:.0f} s while work waits{doing}"
    said = "was not answered" if seen.answer is Answer.TIMED_OUT else f"failed: {seen.why or 'no reason was given'}"
    in_a_row = f"{checks} health checks in a row, for {seconds:.0f} s: the last one" if checks > 1 else "a health check"
    return f"{in_a_row} {said}{doing}"
