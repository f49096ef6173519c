"""Lanes: groups of a step's rows that go through the model side by side."""

from typing import Protocol

from loradock.checkpoints.architecture import Architecture
from loradock.engine.adapters.multi_lora import Mixing
from loradock.engine.core import Logits, Row
from loradock.engine.dtypes import Dtype


class Decoder(Protocol):
    """A base model in memory. `kernels`: whether the compiled kernels compute it."""

    architecture: Architecture
    dtype: Dtype
    device: str
    kernels: bool


class Lane(Protocol):
    """Some of a step's rows, made ready before any lane begins."""

    def run(self, threads: int) -> Logits:
        """Compute the lane and return the logits of `[sum of row.logits]` rows."""


class Lanes(Protocol):
    """A way to split a decoder's steps."""

    @property
    def mixing(self) -> Mixing:
        """The way adapters are applied."""

    small: int
    """A step of fewer tokens may be faster on fewer threads."""

    def split(self, rows: list[Row], threads: int) -> list[Lane]:
        """Split rows for so many threads at most. The lanes' logits follow each other as the rows' do."""

    def warm_up(self) -> None:
        """Do what the first step with adapters would have to wait for."""


def wanted_of(rows: list[Row]) -> list[int]:
    """The numbers, among the rows' tokens, of those whose logits are wanted."""
    wanted: list[int] = []
    end = 0
    for row in rows:
        end += row.count
        wanted.extend(range(end - row.logits, end))
    return wanted
