"""How patient the control loop is, and what replicas are given."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ControlOptions:
    """All times in seconds.

    `tick`: the longest pause between two looks at a deployment. `start_timeout`: process start to healthy.
    `hung_after`: how long a replica may leave health checks unanswered. `drain`: how long running requests may
    finish before a replica is stopped. `grace`: from SIGTERM to SIGKILL. `restarts`: replicas lost in a row before
    the endpoint becomes ERROR. `threads`: CPU threads per replica, 0 leaves it to the engine.
    """

    tick: float = 1.0
    start_timeout: float = 600.0
    hung_after: float = 60.0
    drain: float = 30.0
    detach_drain: float = 600.0
    grace: float = 10.0
    restarts: int = 3
    max_loras: int = 64
    threads: int = 0
