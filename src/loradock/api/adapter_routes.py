"""/v1/endpoints/{id}/adapters: the seed of it all."""

from fastapi import APIRouter

from loradock.api.bodies import AdapterReference
from loradock.api.paths import decode_segment
from loradock.api.services import CallerDep, ServicesDep
from loradock.api.views import Json, adapter_view, as_list
from loradock.endpoints import rules

router = APIRouter(prefix="/v1/endpoints/{reference:path}/adapters")


@router.post("")
async def add(reference: str, body: AdapterReference, caller: CallerDep, services: ServicesDep) -> Json:
    await services.controller.attach(caller.account_id, decode_segment(reference), body.model_id)
    return {"model_id": body.model_id}


@router.get("")
def index(reference: str, caller: CallerDep, services: ServicesDep) -> Json:
    with services.database.session() as session:
        endpoint = rules.find_endpoint(session, caller.account_id, decode_segment(reference))
        return as_list([adapter_view(found, endpoint) for found in rules.attached(session, endpoint)])


@router.delete("")
async def remove(reference: str, body: AdapterReference, caller: CallerDep, services: ServicesDep) -> Json:
    await services.controller.detach(caller.account_id, decode_segment(reference), body.model_id)
    return {"model_id": body.model_id, "deleted": True}
