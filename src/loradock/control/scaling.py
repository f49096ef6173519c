"""Computes how many replicas the load asks for: up soon after it has grown, down long after it has shrunk."""

import math
from collections import deque
from dataclasses import dataclass

_LONGEST_TURN_S = 10.0
"""Turns of the loop follow each other more quickly than this."""


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """`target`: requests in flight (waiting and running) that one replica should have. Windows in seconds.

    The windows are those of Kubernetes' autoscaler in purpose: one burst starts nothing, one lull stops nothing.
    """

    target: float = 8.0
    tolerance: float = 0.1
    up_window: float = 10.0
    down_window: float = 300.0


class Autoscaler:
    """Fed with the load at every turn of the loop; remembers it for the longer window."""

    def __init__(self, rules: ScalingRules) -> None:
        self._rules = rules
        self._seen: deque[tuple[float, int]] = deque()

    def wanted(self, now: float, in_flight: int, current: int, low: int, high: int) -> int:
        """Replicas wanted, between `low` and `high`. `current`: how many are wanted until now."""
        self._note(now, in_flight)
        rise = self._replicas_for(self._mean_since(now - self._rules.up_window), current)
        stay = self._replicas_for(self._most_since(now - self._rules.down_window), current)
        if rise > current and self._watched_since(now - self._rules.up_window):
            current = rise
        elif stay < current and self._watched_since(now - self._rules.down_window):
            current = stay
        return max(low, min(high, current))

    def _note(self, now: float, in_flight: int) -> None:
        if self._seen and now - self._seen[-1][0] > max(self._rules.up_window, _LONGEST_TURN_S):
            self._seen.clear()  # nobody looked for so long that one look would stand for the whole window
        self._seen.append((now, in_flight))
        while len(self._seen) > 1 and self._seen[1][0] <= now - self._rules.down_window:
            self._seen.popleft()

    def _watched_since(self, moment: float) -> bool:
        return self._seen[0][0] <= moment

    def _mean_since(self, moment: float) -> float:
        recent = [load for at, load in self._seen if at >= moment]
        return sum(recent) / len(recent)

    def _most_since(self, moment: float) -> float:
        return max(load for at, load in self._seen if at >= moment)

    def _replicas_for(self, load: float, current: int) -> int:
        """A load within the tolerance of what `current` replicas should have asks for no change."""
        if current and abs(load / (current * self._rules.target) - 1) <= self._rules.tolerance:
            return current
        return math.ceil(load / self._rules.target)
