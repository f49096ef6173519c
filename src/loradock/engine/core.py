"""The engine's nouns, shared by its rooms: sampling parameters, sequences, the rows of one step.

Imports nothing of the package at run time, so that every other module may import it.
"""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

if TYPE_CHECKING:
    from loradock.engine.adapters.lora import LoadedAdapter

Array = np.ndarray[Any, Any]

MOST_TOKENS = 10_000_000
"""The upper bound of any parameter that counts tokens."""
SEEDS = range(-(2**63), 2**64)
SEED = f"an integer from {SEEDS[0]} to {SEEDS[-1]}"


class SequenceState(Enum):
    WAITING = auto()
    RUNNING = auto()
    FINISHED = auto()


class FinishReason(Enum):
    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of sampling. Temperature 0 is greedy. `top_k` 0 or -1 and `top_p` 1 switch off. The bounds are
    those of a request's parameters."""

    max_tokens: int = 16
    temperature: Annotated[float, Meta(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Meta(ge=0, le=1)] = 1.0
    top_k: Annotated[int, Meta(ge=-1, le=MOST_TOKENS)] = 0
    min_p: Annotated[float, Meta(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Meta(gt=0, le=10, description="a number above 0, up to 10")] = 1.0
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] = 0.0
    seed: Annotated[int, Meta(description=SEED)] | None = None
    logit_bias: dict[int, Annotated[float, Meta(ge=-100, le=100)]] = {}
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    ignore_eos: bool = False

    @property
    def changes_logits(self) -> bool:
        penalized = self.repetition_penalty != 1 or self.presence_penalty or self.frequency_penalty
        return bool(penalized or self.logit_bias)

    @property
    def plain(self) -> bool:
        """Whether the token is simply the one with the largest logit."""
        return self.temperature == 0 and not self.changes_logits


@dataclass(slots=True, eq=False)
class Sequence:
    """A prompt and the tokens generated for it.

    `computed` counts the leading tokens whose keys and values lie in `blocks` (KV cache block numbers). `constrained`:
    not every token may come next. `restorable`: more of its prompt may be known on disk.
    """

    id: int
    prompt: list[int]
    params: SamplingParams
    adapter: "LoadedAdapter | None" = None
    output: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    computed: int = 0
    state: SequenceState = SequenceState.WAITING
    constrained: bool = False
    account: str = ""
    restorable: bool = True

    def __len__(self) -> int:
        return len(self.prompt) + len(self.output)

    @property
    def owner(self) -> tuple[int, str]:
        """The adapter's load id (0 for the base model) and the account that asked."""
        return (self.adapter.load_id if self.adapter else 0), self.account

    @property
    def tokens(self) -> list[int]:
        return self.prompt + self.output

    @property
    def is_greedy(self) -> bool:
        """Whether its next token is simply the one with the largest logit."""
        return self.params.plain and not self.constrained

    @property
    def reads_logits(self) -> bool:
        """Whether more than that is wanted of its logits."""
        return not self.is_greedy or (self.params.logprobs, self.params.prompt_logprobs) != (None, None)


@dataclass(slots=True)
class Row:
    """A sequence's share of one step: its next `count` uncomputed tokens (1 when decoding, a chunk in prefill).

    `logits`: how many trailing positions of the chunk need logits (0 for an inner prefill chunk, 1 to sample,
    `count` for prompt logprobs). `skipped`: how many of the step's tokens of this sequence are in another row before.
    `drafts`: tokens that may follow its last one. They are counted, but belong to the sequence only once sampled.
    """

    sequence: Sequence
    count: int
    logits: int
    skipped: int = 0
    drafts: list[int] = field(default_factory=list)

    @property
    def start(self) -> int:
        """The position of its first token."""
        return self.sequence.computed + self.skipped

    @property
    def tokens(self) -> list[int]:
        sequence, start = self.sequence, self.start
        begin = start - len(sequence.prompt)
        if self.count == 1 and 0 <= begin < len(sequence.output):
            return [sequence.output[begin]]
        return [*sequence.prompt, *sequence.output, *self.drafts][start : start + self.count]


@dataclass(slots=True)
class Logits:
    """The logits of a step: rows `[vocab]` in `parts` of some rows each, and for each row the first token with the
    largest logit and whether the row can be used: it has no NaN, and that logit is finite. There are no parts where no
    sequence `reads_logits`.
    """

    parts: "list[Array]"
    best: list[int]
    finite: list[bool]

    @property
    def values(self) -> "Array":
        """All rows; copied once where they come in parts, which most steps can do without."""
        if len(self.parts) > 1:
            self.parts = [np.concatenate(self.parts)]
        whole: Array = self.parts[0]
        return whole

    def row(self, number: int) -> "Array":
        for part in self.parts:
            if number < len(part):
                found: Array = part[number]
                return found
            number -= len(part)
        raise IndexError(number)

    def of(self, rows: list[int]) -> "Logits":
        """Return the logits of some of the rows, in the order given."""
        if len(rows) == len(self.best):
            return self
        parts = [self.row(i)[None] for i in rows] if self.parts else []
        return Logits(parts, [self.best[i] for i in rows], [self.finite[i] for i in rows])
