"""/v1/endpoints/{id}/adapters: attach, list and detach adapters."""

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from loradock.api.listing import Listed, PageDep
from loradock.api.paths import decode_segment
from loradock.api.services import ActorDep, ServicesDep
from loradock.api.unknown_fields import remarked
from loradock.api.v1.answers import Attached, AttachedAdapter, Detached
from loradock.api.v1.bodies import AdapterReference
from loradock.api.v1.views import adapter_view
from loradock.operations import adapters

router = APIRouter(prefix="/v1/endpoints/{reference:path}/adapters")


@router.post("")
async def add(reference: str, body: AdapterReference, actor: ActorDep, services: ServicesDep) -> Attached:
    model_id = await adapters.attach(services, actor, decode_segment(reference), body.model_id)
    return remarked(Attached(model_id=model_id), body.remarks())


@router.get("")
async def index(reference: str, actor: ActorDep, services: ServicesDep, page: PageDep) -> Listed[AttachedAdapter]:
    endpoint, names = await run_in_threadpool(adapters.index, services, actor, decode_segment(reference))
    replicas = await services.controller.replicas(endpoint.deployment_id)
    return page.listed([adapter_view(name, endpoint.name, replicas) for name in names])


@router.delete("")
async def remove(reference: str, body: AdapterReference, actor: ActorDep, services: ServicesDep) -> Detached:
    model_id = await adapters.detach(services, actor, decode_segment(reference), body.model_id)
    return remarked(Detached(model_id=model_id, deleted=True), body.remarks())
