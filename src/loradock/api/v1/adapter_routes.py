"""/v1/endpoints/{id}/adapters: attach, list and detach adapters."""

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from loradock.api.listing import PageDep
from loradock.api.paths import decode_segment
from loradock.api.services import CallerDep, Services, ServicesDep
from loradock.api.unknown_fields import remarked
from loradock.api.v1.bodies import AdapterReference
from loradock.api.v1.views import Json, adapter_view, where_kept, why_not_served
from loradock.control.views import ReplicaFacts
from loradock.endpoints import rules
from loradock.endpoints.attachments import adapter_name
from loradock.gateway.keys import Caller
from loradock.types.names import combined_id, split_combined_id

router = APIRouter(prefix="/v1/endpoints/{reference:path}/adapters")


@router.post("")
async def add(reference: str, body: AdapterReference, caller: CallerDep, services: ServicesDep) -> Json:
    await services.controller.attach(caller.account_id, decode_segment(reference), body.model_id)
    return remarked({"model_id": await _callable_id(services, caller, reference, body.model_id)}, body.remarks())


@router.get("")
async def index(reference: str, caller: CallerDep, services: ServicesDep, page: PageDep) -> Json:
    def read() -> tuple[str, list[Json]]:
        with services.database.session() as session:
            endpoint = rules.find_endpoint(session, caller.account_id, decode_segment(reference))
            views = [adapter_view(found, endpoint.name) for found in rules.attached_names(session, endpoint)]
            return endpoint.deployment.id, views

    deployment, views = await run_in_threadpool(read)
    replicas = await services.controller.replicas(deployment)
    return page.listed([{**view, **_at_work(view["adapter_name"], replicas)} for view in views])


def _at_work(adapter: str, replicas: list[ReplicaFacts]) -> Json:
    return {"replicas": where_kept(adapter, replicas), "message": why_not_served(adapter, replicas)}


@router.delete("")
async def remove(reference: str, body: AdapterReference, caller: CallerDep, services: ServicesDep) -> Json:
    await services.controller.detach(caller.account_id, decode_segment(reference), body.model_id)
    answer = {"model_id": await _callable_id(services, caller, reference, body.model_id), "deleted": True}
    return remarked(answer, body.remarks())


async def _callable_id(services: Services, caller: Caller, reference: str, model_id: str) -> str:
    """The combined id with the adapter's full name, however it was given."""
    endpoint, adapter = split_combined_id(model_id)
    if adapter.startswith(f"{caller.account}/"):
        return model_id

    def name() -> str:
        with services.database.session() as session:
            return adapter_name(session, caller.account_id, decode_segment(reference), model_id)

    return combined_id(endpoint, await run_in_threadpool(name))
