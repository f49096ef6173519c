"""Loradock beside others, measured in one run: `make bench`, or `python -m benchmarks --help`."""
