"""JSON schemas of callers, made ready for the grammar library: the one place that knows what it cannot follow."""

from loradock.engine.schemas.blame import blamed
from loradock.engine.schemas.errors import Unfollowable
from loradock.engine.schemas.preparing import prepared

__all__ = ["Unfollowable", "blamed", "prepared"]
