"""What somebody may have meant who asks for an address that there is not."""

from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from itertools import zip_longest

_ALIKE = 0.7
_CHAT, _TEXT = "POST /v1/chat/completions", "POST /v1/completions"
_MODELS = "GET /v1/models"
_ELSEWHERE = {
    "responses": _CHAT,
    "messages": _CHAT,
    "chat": _CHAT,
    "conversations": _CHAT,
    "threads": _CHAT,
    "assistants": _CHAT,
    "generate": _TEXT,
    "generate_stream": _TEXT,
    "infer": _TEXT,
    "inference": _TEXT,
    "completion": _TEXT,
    "engines": _MODELS,
    "tags": _MODELS,
    "load_lora_adapter": "POST /v1/endpoints/{endpoint_id}/adapters",
    "unload_lora_adapter": "DELETE /v1/endpoints/{endpoint_id}/adapters",
}
"""What other APIs call it: their last words → the route here."""

Routes = Mapping[str, Iterable[str]]
"""Path, with {parameters}, → methods."""


def nearest(method: str, path: str, routes: Routes) -> str | None:
    """The route here that is most like what was asked for, as `POST /v1/…`, or None where nothing is."""
    words = _words(path)
    likeness, known = max(((_likeness(words, known), known) for known in routes), default=(0.0, ""))
    if likeness >= _ALIKE:
        methods = sorted(one.upper() for one in routes[known])
        return f"{method if method in methods else methods[0]} {known}"
    return next((_ELSEWHERE[word] for word in reversed(words) if word in _ELSEWHERE), None)


def allowed(path: str, routes: Routes) -> list[str]:
    """The methods of the route that a path is of."""
    if "//" in path:  # which is like one, and is none
        return []
    words = _words(path)
    return sorted({one.upper() for known in routes if _likeness(words, known) == 1.0 for one in routes[known]})


def _words(path: str) -> list[str]:
    return [word.lower() for word in path.split("/") if word]


def _likeness(words: list[str], known: str) -> float:
    """Of the words that differ most. A parameter is like whatever stands in its place."""
    places = _words(known)
    if places and places[-1].startswith("{") and "name" in places[-1]:  # it takes the rest
        places += places[-1:] * (len(words) - len(places))
    pairs = list(zip_longest(words, places, fillvalue=""))
    return min((_alike(word, place) for word, place in pairs), default=0.0)


def _alike(word: str, place: str) -> float:
    if place.startswith("{") and word:
        return 1.0
    return SequenceMatcher(None, word, place).ratio()
