"""Who am I, and the one project that an account is."""

from typing import Any

from fastapi import APIRouter

from loradock.api.services import CallerDep
from loradock.api.v1.views import Json, whoami_view

router = APIRouter()


@router.get("/v1/whoami")
@router.get("/v3/whoami")
async def whoami(caller: CallerDep) -> Json:
    return whoami_view(caller.account_id, caller.account)


@router.get("/v1/projects")
async def projects(caller: CallerDep) -> dict[str, Any]:
    who = whoami_view(caller.account_id, caller.account)
    project = {**who["project"], "organization_id": who["organization_id"], "organization_name": caller.account}
    return {"object": "list", "data": [project], "next_cursor": None}


@router.get("/health")
async def health() -> Json:
    return {"status": "ok"}
