"""Estimates how long a step takes, learned from those before it."""

TYPICAL = 16, 16_000
"""Tokens and keys of a usual small step: in these units its tokens, its keys, and reading the weights weigh alike."""
MOST = 64
"""Steps of more tokens say little about small ones: they attend in another way."""
_RATE = 0.2
_JUMP = 2.0
_FIRST = (0.005, 0.005, 0.005)


class StepCost:
    """Seconds of a small step: so many for reading the weights, for every token, and for every key that a token sees.

    Adapted to each step by normalized least mean squares (Haykin, Adaptive Filter Theory), which forgets nothing of
    what lately there was no example of.
    """

    def __init__(self) -> None:
        self._parts = _FIRST

    def record(self, tokens: int, keys: int, seconds: float) -> None:
        """Record how long a step took in which so many tokens saw so many keys in all."""
        if tokens > MOST:
            return
        step = _units(tokens, keys)
        expected = _product(self._parts, step)
        # A step that something else held up counts for little.
        change = _RATE * (min(seconds, _JUMP * expected) - expected) / _product(step, step)
        weights, token, key = (max(1e-9, part + change * unit) for part, unit in zip(self._parts, step, strict=True))
        self._parts = weights, token, key

    def seconds(self, tokens: int, keys: int) -> float:
        """Return how long such a step will probably take."""
        return _product(self._parts, _units(tokens, keys))

    def more(self, keys: int) -> float:
        """Return the seconds that one more token that sees so many keys adds."""
        return self.seconds(1, keys) - self.seconds(0, 0)


def _units(tokens: int, keys: int) -> tuple[float, float, float]:
    return 1.0, tokens / TYPICAL[0], keys / TYPICAL[1]


def _product(some: tuple[float, float, float], others: tuple[float, float, float]) -> float:
    return sum(one * other for one, other in zip(some, others, strict=True))
