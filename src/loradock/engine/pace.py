"""How many tokens a step may hold, so that nobody's stream stalls for a prompt of somebody else's."""

STALL = 0.05
"""Seconds that a step with decoding rows may take: twenty tokens a second still read smoothly."""
LEAST = 16
"""Prompt tokens that any step may hold; and steps of fewer tokens say little about what one token takes."""


class Pace:
    """What a token takes in the steps of late, a prompt's or a decoding sequence's."""

    def __init__(self) -> None:
        self._each: float | None = None

    def record(self, tokens: int, seconds: float) -> None:
        """How long a step of so many took."""
        if tokens < LEAST:
            return
        each = seconds / tokens
        self._each = each if self._each is None else 0.8 * self._each + 0.2 * each

    def prompt_tokens(self, decoding: int, most: int) -> int:
        """How many a step may hold beside so many decoding rows, of `most` tokens in all. At the least as many as there
        are decoding rows: prompts get half of the time.
        """
        room = most - decoding
        if decoding == 0 or self._each is None:
            return room
        return min(room, max(int(STALL / self._each) - decoding, decoding, LEAST))
