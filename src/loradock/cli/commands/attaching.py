"""Commands that attach adapters to one endpoint and detach them."""

from typing import Any

from loradock.cli.client import Client, segment
from loradock.cli.references import endpoint_id
from loradock.types.names import combined_id


class Target:
    """The endpoint that `reference` names. Raises LoradockError when there is none."""

    def __init__(self, client: Client, reference: str) -> None:
        self.client = client
        self.endpoint = client.call("GET", f"/v1/endpoints/{segment(endpoint_id(client, reference))}")
        self.path = f"/v1/endpoints/{segment(self.endpoint['id'])}/adapters"

    def attach(self, adapter: str) -> Any:
        return self.client.call("POST", self.path, {"model_id": self._combined(adapter)})

    def detach(self, adapter: str) -> Any:
        return self.client.call("DELETE", self.path, {"model_id": self._combined(adapter)})

    def _combined(self, adapter: str) -> str:
        return adapter if ":" in adapter else combined_id(self.endpoint["name"], adapter)


def attached_names(target: Target) -> list[str]:
    return [row["adapter_name"] for row in target.client.call("GET", target.path)["data"]]
