"""Resolves what people call an endpoint: its id, its name, or the display name they gave it."""

from loradock.cli.client import Client
from loradock.types.errors import BadRequest


def endpoint_id(client: Client, reference: str) -> str:
    """The id (or name) the server knows `reference` by; one it does not know comes back as it is.

    Raises BadRequest when several endpoints have this display name.
    """
    if reference.startswith("endpoint-"):
        return reference
    endpoints = client.call("GET", "/v1/endpoints")["data"]
    if any(endpoint["name"] == reference for endpoint in endpoints):
        return reference
    found = [endpoint["id"] for endpoint in endpoints if endpoint["display_name"] == reference]
    if len(found) > 1:
        raise BadRequest(f"{len(found)} endpoints are called {reference!r}; give an id: {', '.join(found)}")
    return found[0] if found else reference
