"""Models of several sizes, contexts, starts and memory: Loradock's engine beside others of the same width."""

from benchmarks.sizes.sizes import add_sizes
from benchmarks.sizes.widths import Job, Plan, size_peers

__all__ = ["Job", "Plan", "add_sizes", "size_peers"]
