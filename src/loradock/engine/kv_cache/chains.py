"""What a full block of the KV cache is known by."""

from array import array
from hashlib import blake2b

from loradock.engine.core import Sequence

Chain = tuple[int, bytes]
"""(adapter load id, digest of all tokens up to the end of the block)."""


def root(sequence: Sequence) -> Chain:
    """Return what the chain of a sequence begins with."""
    return (sequence.adapter.load_id if sequence.adapter else 0, b"")


def extended(chain: Chain, tokens: list[int]) -> Chain:
    """Return the chain that goes on with a block's tokens."""
    # A cryptographic digest: with Python's own hash a crafted prompt could be given another's keys and values.
    return (chain[0], blake2b(chain[1] + array("q", tokens).tobytes(), digest_size=16).digest())
