"""The adapters of an endpoint as a list to search, sort and page."""

from collections.abc import Collection, Mapping

from starlette.datastructures import QueryParams

from loradock.dashboard.components.lists import Asked, read_asked
from loradock.queries.endpoint_adapters import SORTS, EndpointAdapters, Only
from loradock.telemetry.queries import AdapterUse

SIZE = 25


def read_adapters_asked(endpoint_id: str, query: QueryParams) -> Asked:
    return read_asked(
        f"/ui/endpoints/{endpoint_id}",
        query,
        sorts=SORTS,
        usual="-attached",
        filters={"only": tuple(Only)},
        more=("span",),
    )


def asked_adapters(
    deployment_id: str, asked: Asked, uses: Mapping[str, AdapterUse], refused: Collection[str]
) -> EndpointAdapters:
    """`uses` by name; `refused` are those that a replica does not take."""
    only = asked.filters["only"]
    return EndpointAdapters(deployment_id, uses, refused, Only(only) if only else None)
