"""Constants that kernels and the code around them share. Imports nothing, as machine code is cached by these
sources."""

BLOCK_SIZE = 16
"""Tokens whose keys and values lie together in the cache."""
