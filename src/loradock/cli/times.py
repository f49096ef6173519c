"""Moments as people read them: one format, one time zone."""

import os
from datetime import UTC, datetime, tzinfo
from functools import lru_cache

from loradock.cli.usage import UsageProblem

_VARIABLE = "LORADOCK_TZ"


def use_utc(wanted: bool) -> None:
    """`--utc`."""
    if wanted:
        os.environ[_VARIABLE] = "UTC"


def when(moment: str) -> str:
    """An ISO time of the API as `2026-11-27 10:41:09` in the time zone of the command line."""
    return datetime.fromisoformat(moment).astimezone(_zone()).strftime("%Y-%m-%d %H:%M:%S")


def zone_name() -> str:
    return datetime.now(UTC).astimezone(_zone()).strftime("%Z")


@lru_cache(maxsize=1)
def _zone() -> tzinfo | None:
    """None: this machine's, as TZ or its clock says. Raises UsageProblem."""
    name = os.environ.get(_VARIABLE, "")
    if name.lower() in ("", "local"):
        return None
    if name.upper() in ("UTC", "Z"):
        return UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:
        message = f"{_VARIABLE} is {name!r}: give UTC, local or a time zone such as Europe/Berlin"
        raise UsageProblem(message) from error
