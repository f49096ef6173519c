"""A base model in the order in which the kernels read it."""

import numpy as np

from loradock.engine.kernels.memory import Array
from loradock.engine.models.packed_layout import Layout, Section, WeightPlace


class PackedModel:
    """`content` uint8 `[layout.size]`, beginning a cache line; it may be mapped from a file."""

    def __init__(self, layout: Layout, content: Array) -> None:
        if content.dtype != np.uint8 or content.shape != (layout.size,) or not content.flags.c_contiguous:
            raise ValueError(f"a packed model of {layout.size} bytes is not {content.dtype} {content.shape}")
        self.layout = layout
        self._content = content

    def address(self, section: Section) -> int:
        """Raises ValueError for what lies outside."""
        if not 0 <= section.start <= section.end <= self._content.size:
            raise ValueError(f"{section} is outside of a packed model of {self._content.size} bytes")
        return self._content.ctypes.data + section.start

    def bytes_of(self, section: Section) -> Array:
        """A part of the content, uint8."""
        return self._content[section.start : section.end]

    def rares(self, place: WeightPlace) -> int:
        """Return how many weights of a coded weight are not in its panels."""
        return int(self.bytes_of(self.layout.counts).view(np.int64)[place.number])
