"""Waiting for an endpoint to get where it was asked to be."""

import time
from typing import Any

from rich.markup import escape

from loradock.cli.client import Client, segment
from loradock.cli.output import console
from loradock.types.enums import EndpointState
from loradock.types.errors import BadRequest

_POLL_SECONDS = 0.3


def wait_for(client: Client, reference: str, state: EndpointState, *, quiet: bool) -> dict[str, Any]:
    """Poll until the state is reached. Raises BadRequest with the engine's own words when it becomes ERROR."""
    with console.status("waiting …") if not quiet else _Silent() as status:
        while True:
            endpoint: dict[str, Any] = client.call("GET", f"/v1/endpoints/{segment(reference)}")
            if endpoint["state"] == state:
                return endpoint
            if endpoint["state"] == EndpointState.ERROR:
                raise BadRequest(f"{endpoint['name']} failed: {endpoint['message']}")
            status.update(escape(f"{endpoint['state']} {endpoint['message'] or ''}"))
            time.sleep(_POLL_SECONDS)


class _Silent:
    def __enter__(self) -> "_Silent":
        return self

    def __exit__(self, *_: object) -> None:
        return

    def update(self, _: str) -> None:
        return
