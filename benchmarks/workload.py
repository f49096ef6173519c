"""The cases: which adapters, how many clients, which prompts, how many tokens. The same for every peer."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from benchmarks.adapters import Adapter, mixed, uniform
from benchmarks.models.shapes import SMOLLM2, Model

WORDS = (
    *("rain", "parrot", "harbour", "lantern", "copper", "orchard", "signal", "winter", "granite", "violin", "pepper"),
    *("ladder", "comet", "marble", "engine", "meadow", "thunder", "velvet", "anchor", "pocket", "desert", "candle"),
)
_SHORT, _LONG = 16, 320
"""Words of a prompt; in tokens about 20 and 325."""

_RANKS = (4, 8, 16, 64, 4, 8, 32, 16)


@dataclass(frozen=True)
class Fleet:
    """The adapters that a server has when it is measured. `rank`: the highest."""

    name: str
    adapters: tuple[Adapter, ...]

    @property
    def rank(self) -> int:
        return max((adapter.rank for adapter in self.adapters), default=0)


def fleet(name: str, model: Model = SMOLLM2) -> Fleet:
    """`none`, `8xr8`, `32xr8`, `8xmix`, `32xmix`: number of adapters, ranks."""
    if name == "none":
        return Fleet(name, ())
    count, ranks = name.split("x", 1)
    if ranks == "mix":
        return Fleet(name, mixed([_RANKS[number % len(_RANKS)] for number in range(int(count))], model))
    return Fleet(name, uniform(int(count), int(ranks.removeprefix("r")), model))


@dataclass(frozen=True)
class Case:
    """`used`: how many of the fleet's adapters are asked (0: the base model). `central`: one that every peer is asked,
    all variants, all repetitions; around it the others vary one thing each. `model`: by name.
    """

    fleet: str
    used: int
    clients: int
    tokens: int
    prompt: str = "short"
    choice: str = "uniform"
    central: bool = False
    model: str = SMOLLM2.name

    @property
    def name(self) -> str:
        who = {0: "base", 1: "1 adapter"}.get(self.used, f"{self.used} adapters")
        ranks = self.fleet.partition("x")[2]
        rank = "" if self.used == 0 else ", ranks 4-64" if ranks == "mix" else f", rank {ranks.removeprefix('r')}"
        beside = f" beside {self.fleet}" if self.used == 0 and self.fleet != "none" else ""
        kind = (", long prompts" if self.prompt == "long" else "") + (", Zipf" if self.choice == "zipf" else "")
        size = "" if self.model == SMOLLM2.name else f"{self.model.upper()}: "
        return f"{size}{who}{beside}{rank}{kind}, {self.clients} concurrent"


DEFAULT = (
    Case("none", 0, 1, 64, central=True),
    Case("none", 0, 8, 32),
    Case("none", 0, 32, 32, central=True),
    Case("none", 0, 64, 32),
    Case("none", 0, 8, 16, prompt="long"),
    Case("8xr8", 0, 32, 32, central=True),
    Case("8xr8", 1, 1, 64, central=True),
    Case("8xr8", 8, 8, 32),
    Case("8xr8", 8, 32, 32, central=True),
    Case("8xr8", 8, 64, 32),
    Case("8xr8", 8, 32, 32, choice="zipf"),
    Case("8xr8", 8, 8, 16, prompt="long"),
    Case("32xr8", 0, 32, 32, central=True),
    Case("32xr8", 32, 32, 32, central=True),
    Case("8xmix", 8, 32, 16),
)

FULL = (
    *(Case("none", 0, clients, 64, prompt) for clients, prompt in product((1, 8, 32, 64), ("short", "long"))),
    *(
        Case(group, used, clients, 64, prompt, choice)
        for group, used in (("8xr8", 1), ("8xr8", 8), ("32xr8", 32), ("8xmix", 8), ("32xmix", 32))
        for clients, prompt, choice in product((1, 8, 32, 64), ("short", "long"), ("uniform", "zipf"))
        if used > 1 or choice == "uniform"
    ),
)


def prompts(case: Case, repetition: int) -> Iterator[str]:
    """No two begin alike, so that no server's prefix cache spares it the work."""
    dice = random.Random(f"{case.name} {repetition}")
    for number in range(1_000_000):
        words = dice.choices(WORDS, k=_LONG if case.prompt == "long" else _SHORT)
        yield f"{number}{dice.choice(WORDS)} {' '.join(words)}."


def chosen(case: Case, adapters: Sequence[Adapter], repetition: int) -> Iterator[Adapter | None]:
    """Whom each request asks: in turn, or the n-th adapter n times more rarely than the first."""
    if case.used == 0:
        while True:
            yield None
    among = list(adapters[: case.used])
    if case.choice == "zipf":
        dice = random.Random(f"zipf {repetition}")
        weights = [1 / number for number in range(1, len(among) + 1)]
        while True:
            yield dice.choices(among, weights)[0]
    while True:
        yield from among
