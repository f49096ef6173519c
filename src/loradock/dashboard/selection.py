"""Adapters that were ticked in a list."""

from starlette.datastructures import FormData, QueryParams

MOST = 5000
"""The most that can be selected at once."""
_LONGEST_NAME = 200


def sent_names(form: FormData | QueryParams, field: str = "adapter") -> list[str]:
    """Boxes that were ticked, one field each, or all in one, which has no limit of fields."""
    words = [word for value in form.getlist(field) if isinstance(value, str) for word in value.split()]
    return [word for word in dict.fromkeys(words) if len(word) <= _LONGEST_NAME][:MOST]
