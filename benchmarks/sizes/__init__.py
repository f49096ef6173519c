"""Models of several sizes, contexts, starts and memory: Loradock's engine beside others of the same width."""

from benchmarks.sizes.contexts import add_contexts
from benchmarks.sizes.sizes import add_sizes
from benchmarks.sizes.starts import add_starts
from benchmarks.sizes.tables import sizes_report
from benchmarks.sizes.widths import Job, Plan, size_peers

__all__ = ["Job", "Plan", "add_contexts", "add_sizes", "add_starts", "size_peers", "sizes_report"]
