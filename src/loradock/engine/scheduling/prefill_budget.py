"""Decides how many tokens a step may hold, so that nobody's stream stalls for a prompt of somebody else's."""

STALL = 0.05
"""Seconds that a step with decoding rows may take: twenty tokens a second still read smoothly."""
LEAST = 32
"""Tokens that a step may hold of each prompt, on the average, however long they take: prompts that outnumber the
decoding rows need not wait for them. Fewer in a step say little about what one takes."""
_JUMP = 2.0


class Pace:
    """Measures how long a step of decoding rows alone takes lately, and what each prompt token adds to it."""

    def __init__(self) -> None:
        self._alone: float | None = None
        self._each: float | None = None

    def record(self, decoding: int, prompt_tokens: int, seconds: float) -> None:
        """Record how long a step of so many rows and prompt tokens took."""
        if prompt_tokens == 0:
            self._alone = _smoothed(self._alone, seconds)
            return
        before = (self._alone or 0.0) if decoding else 0.0
        # Never less than a tenth: a step that was measured before may have been an unusually slow one.
        each = max(seconds - before, seconds / 10, 1e-9) / prompt_tokens
        if prompt_tokens >= LEAST:
            self._each = _smoothed(self._each, each)

    def prompt_tokens(self, decoding: int, prompts: int, most: int) -> int:
        """Return how many tokens of so many prompts a step of at most `most` may hold beside so many decoding rows:
        what fits in STALL, or half of the time where decoding alone takes most of that.
        """
        room = most - decoding
        if decoding == 0 or self._each is None:
            return room
        alone = self._alone or 0.0
        return min(room, max(int(max(STALL - alone, alone) / self._each), LEAST * prompts))


def _smoothed(before: float | None, now: float) -> float:
    """A step that something else held up counts for little."""
    return now if before is None else 0.8 * before + 0.2 * min(now, _JUMP * before)


def split_budget(tokens: int, needs: list[int]) -> list[int]:
    """Return how many of `tokens` each prompt gets, the oldest first in `needs`. That one gets half of them, the others
    in the order of what they lack, so that short ones need not wait for the end of long ones; what is left the oldest
    again.
    """
    counts, left = [0] * len(needs), max(0, tokens)
    kept = min(needs[0], (left + 1) // 2) if needs else 0
    for n in sorted(range(1, len(needs)), key=needs.__getitem__):
        counts[n] = min(needs[n], max(0, left - kept))
        left -= counts[n]
    if needs:
        counts[0] = min(needs[0], left)
    return counts
