"""The error that says why a schema cannot be followed."""


class Unfollowable(Exception):
    """`where` is the path of the property, empty for the whole; `reason` is a sentence about it, in our words."""

    def __init__(self, where: str, reason: str) -> None:
        short = where if len(where) <= 100 else f"{where[:60]}…{where[-30:]}"
        super().__init__(f"property {short!r}: {reason}" if where else reason)
        self.where = where
        self.reason = reason
