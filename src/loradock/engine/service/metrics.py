"""Counters of one replica."""

from collections import Counter

# A name costs the scraper memory for ever: adapters beyond this many are counted together.
MAX_NAMES = 256
_OTHER = "other"


class Metrics:
    """Changed only on the event loop's thread."""

    def __init__(self) -> None:
        self.prompt_tokens = 0
        self.requests: Counter[tuple[str, str]] = Counter()
        """The number of requests by model and outcome."""
        self.tokens: Counter[str] = Counter()
        """Generated, by model."""

    def count_prompts(self, lengths: list[int]) -> None:
        self.prompt_tokens += sum(lengths)

    def count_request(self, model: str, outcome: str, tokens: int) -> None:
        """`outcome`: finished, failed, aborted (the client left) or refused."""
        label = model if model in self.tokens or len(self.tokens) < MAX_NAMES else _OTHER
        self.requests[label, outcome] += 1
        self.tokens[label] += tokens
