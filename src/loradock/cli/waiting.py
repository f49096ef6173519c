"""Waiting for an endpoint to get where it was asked to be."""

import time
from typing import Any

from rich.markup import escape

from loradock.cli.client import Client, segment
from loradock.cli.output import console
from loradock.types.enums import EndpointState
from loradock.types.errors import BadRequest

_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S, _PART = 0.02, 0.3, 10


class Pauses:
    """Pauses between looks at something that takes a moment, or minutes: a part of the time it has taken so far."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def pause(self) -> None:
        taken = time.monotonic() - self._begun
        time.sleep(min(_LONGEST_PAUSE_S, max(_SHORTEST_PAUSE_S, taken / _PART)))


def wait_for(client: Client, reference: str, state: EndpointState, *, quiet: bool) -> dict[str, Any]:
    """Poll until the state is reached. Raises BadRequest with the engine's own words when it becomes ERROR."""
    pauses = Pauses()
    with console.status("waiting …") if not quiet else _Silent() as status:
        while True:
            endpoint: dict[str, Any] = client.call("GET", f"/v1/endpoints/{segment(reference)}")
            if endpoint["state"] == state:
                return endpoint
            if endpoint["state"] == EndpointState.ERROR:
                raise BadRequest(f"{endpoint['name']} failed: {endpoint['message']}")
            status.update(escape(f"{endpoint['state']} {endpoint['message'] or ''}"))
            pauses.pause()


class _Silent:
    def __enter__(self) -> "_Silent":
        return self

    def __exit__(self, *_: object) -> None:
        return

    def update(self, _: str) -> None:
        return
