"""What kernels and the code around them have in common. Imports nothing, as machine code is kept by these sources."""

BLOCK_SIZE = 16
"""Tokens whose keys and values lie together in the cache."""
