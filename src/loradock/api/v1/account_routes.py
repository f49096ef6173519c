"""Routes that tell who asks, and show the account as its one project."""

from fastapi import APIRouter

from loradock.api.services import ActorDep
from loradock.api.v1.answers import Health, ProjectItem, Projects, Whoami
from loradock.api.v1.views import whoami_view

router = APIRouter()


@router.get("/v1/whoami")
@router.get("/v3/whoami")
async def whoami(actor: ActorDep) -> Whoami:
    return whoami_view(actor)


@router.get("/v1/projects")
async def projects(actor: ActorDep) -> Projects:
    who = whoami_view(actor)
    project = ProjectItem(
        **who["project"], organization_id=who["organization_id"], organization_name=who["organization_name"]
    )
    return {"object": "list", "data": [project], "next_cursor": None}


@router.get("/health")
async def health() -> Health:
    return {"status": "ok"}
