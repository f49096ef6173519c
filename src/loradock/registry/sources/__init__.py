"""The sources of models. `read_source` turns a `model_source` into one of them."""

from loradock.registry.sources.kinds import Source, SourceRules, read_source

__all__ = ["Source", "SourceRules", "read_source"]
