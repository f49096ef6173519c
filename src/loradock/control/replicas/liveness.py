"""Whether a replica is alive: a state machine fed with what each look at it has found. The table: docs/liveness.md.

Nothing here asks a clock or a process: times come with the looks, in seconds of a clock that stands still while this
server does (`awake`).
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
class Look:
    """`at`: when the check was sent; `until`: when it ended. `progressed`: steps were computed since the last look.
    `working`: work waits for them. `computing`: processor time was used since the last look. `held`: a signal keeps the
    process from running. `paused`: this server itself stood still meanwhile. `gone`: the process has ended. `why`: what
    a failed check said."""

    at: float
    until: float
    answer: Answer = Answer.GOOD
    progressed: bool = True
    working: bool = False
    computing: bool = False
    held: bool = False
    paused: bool = False
    gone: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Patience:
    """In seconds. `unready`: without a good answer, or without progress, until no new requests are sent. `lost`: the
    same, without processor time used, until it is given up. `stretched`: until it is given up whatever it uses.
    `checks`: how many looks in a row it takes at least."""

    unready: float = 5.0
    lost: float = 60.0
    stretched: float = 300.0
    checks: int = 3


class Liveness:
    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self.health = Health.STARTING
        self.reason = ""
        """Why it is not READY."""
        self._started = False
        self._since: float | None = None
        self._bad = self._still = 0

    def started(self) -> None:
        """It has computed its first token and holds what it should."""
        self._started = True
        if self.health is Health.STARTING:
            self.health = Health.READY

    def look(self, look: Look) -> Health:
        if self.health is Health.LOST:
            return self.health
        if look.gone:
            self.health, self.reason = Health.LOST, self.reason or "its process has ended"
        elif look.paused:
            self._begin_anew()
        elif _is_good(look):
            self._begin_anew()
            self.health = Health.READY if self._started else Health.STARTING
            self.reason = ""
        else:
            self._count(look)
        return self.health

    def _begin_anew(self) -> None:
        """What was seen before says nothing any more."""
        self._since = None
        self._bad = 0
        self._still = 0

    def _count(self, look: Look) -> None:
        if self._since is None:
            self._since = look.at
        self._bad += 1
        self._still = 0 if look.computing or look.held else self._still + 1
        seconds = look.until - self._since
        self.reason = _reason(look, self._bad, seconds)
        if self._bad >= self._patience.checks and seconds >= self._until_lost():
            self.health = Health.LOST if self.health is Health.UNREADY else Health.UNREADY
        elif self._bad > 1 and seconds >= self._until_unready(look):
            self.health = Health.UNREADY
        elif self.health is Health.READY and not _is_busy(look):
            self.health = Health.SUSPECT

    def _until_unready(self, look: Look) -> float:
        """A step may take long: one that answers and computes is given more time."""
        return self._patience.lost if _is_busy(look) else self._patience.unready

    def _until_lost(self) -> float:
        return self._patience.lost if self._still >= self._patience.checks else self._patience.stretched


def _is_good(look: Look) -> bool:
    return look.answer is Answer.GOOD and (look.progressed or not look.working)


def _is_busy(look: Look) -> bool:
    return look.answer is Answer.GOOD and look.computing


def _reason(look: Look, checks: int, seconds: float) -> str:
    doing = "" if look.computing else ", and uses no processor"
    if look.held:
        doing = "; a signal or a debugger stops its process"
    if look.answer is Answer.GOOD:
        return f"it has computed no step for {seconds:.0f} s while work waits{doing}"
    said = "was not answered" if look.answer is Answer.TIMED_OUT else f"failed: {look.why or 'no reason was given'}"
    in_a_row = f"{checks} health checks in a row, for {seconds:.0f} s: the last one" if checks > 1 else "a health check"
    return f"{in_a_row} {said}{doing}"
