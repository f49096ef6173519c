"""Finds the route that was probably meant by a request for an address that does not exist."""

from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from itertools import zip_longest

_ALIKE = 0.7
_LONGEST = 200
"""Characters of a path that is compared: comparing takes time, anybody may ask, and everybody waits meanwhile."""
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
"""Names in other APIs: their last words → the route here."""

Routes = Mapping[str, Iterable[str]]
"""Path, with {parameters}, → methods."""


def nearest(method: str, path: str, routes: Routes) -> str | None:
    """The route here that is most like what was asked for, as `POST /v1/…`, or None where nothing is."""
    words = _words(path)
    compared = routes if len(path) <= _LONGEST else ()
    likeness, known = max(((_likeness(words, known), known) for known in compared), default=(0.0, ""))
    if likeness >= _ALIKE:
        methods = sorted(one.upper() for one in routes[known])
        return f"{method if method in methods else methods[0]} {known}"
    return next((_ELSEWHERE[word] for word in reversed(words) if word in _ELSEWHERE), None)


def allowed(path: str, routes: Routes) -> list[str]:
    """The methods of the route that a path is of."""
    if "//" in path:  # which is like one, and is none
        return []
    words = _words(path)
    return sorted({one.upper() for known in routes if _matches(words, known) for one in routes[known]})


def _words(path: str) -> list[str]:
    return [word.lower() for word in path.split("/") if word]


def _likeness(words: list[str], known: str) -> float:
    """Return the likeness of the words that differ most."""
    pairs = zip_longest(words, _places(known, len(words)), fillvalue="")
    return min((_alike(word, place) for word, place in pairs), default=0.0)


def _matches(words: list[str], known: str) -> bool:
    places = _places(known, len(words))
    return bool(places) and len(places) == len(words) and all(map(_fits, words, places))


def _places(known: str, count: int) -> list[str]:
    """The words of a route, for a path of `count` words."""
    places = _words(known)
    if places and places[-1].startswith("{") and "name" in places[-1]:  # it takes the rest
        places += places[-1:] * (count - len(places))
    return places


def _alike(word: str, place: str) -> float:
    return 1.0 if _fits(word, place) else SequenceMatcher(None, word, place).ratio()


def _fits(word: str, place: str) -> bool:
    """A parameter is like whatever stands in its place."""
    return word == place or bool(word and place.startswith("{"))
