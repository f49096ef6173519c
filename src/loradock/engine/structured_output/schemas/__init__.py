"""JSON schemas of callers, made ready for the grammar library: the one place that knows what it cannot follow."""

from loradock.engine.structured_output.schemas.blame import blamed
from loradock.engine.structured_output.schemas.errors import Unfollowable
from loradock.engine.structured_output.schemas.preparing import prepared

__all__ = ["Unfollowable", "blamed", "prepared"]
