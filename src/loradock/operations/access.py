"""Finding what an operation is about, and asking whether the actor may do it.

What an actor may not use is answered like what is not there: nobody learns what others have.
"""

from sqlalchemy.orm import Session

from loradock.endpoints.rules import find_endpoint
from loradock.registry.jobs import get_job
from loradock.store.accounts import find_key
from loradock.store.models import find_model
from loradock.store.tables import ApiKey, Endpoint, Job, Model
from loradock.types.access import Action, Actor, Resource, ResourceKind, allowed
from loradock.types.enums import ModelKind, ModelState
from loradock.types.errors import EndpointMissing, LoradockError, ModelMissing, NotFound

_MISSING: dict[ResourceKind, type[LoradockError]] = {
    ResourceKind.ENDPOINT: EndpointMissing,
    ResourceKind.MODEL: ModelMissing,
    ResourceKind.JOB: NotFound,
    ResourceKind.KEY: NotFound,
}


def require(actor: Actor, action: Action, resource: Resource) -> None:
    """Raises the error for what is not there unless the actor may do it."""
    if not allowed(actor, action, resource):
        raise _MISSING[resource.kind]


def own(actor: Actor, kind: ResourceKind) -> Resource:
    """Return the resource that is about to be made in the actor's account, or is found there by whoever carries the
    operation out."""
    return Resource(kind, actor.account_id)


def endpoint_for(session: Session, actor: Actor, action: Action, reference: str) -> Endpoint:
    """Find an endpoint by id or name. Raises EndpointMissing."""
    endpoint = find_endpoint(session, actor.account_id, reference)
    require(actor, action, Resource(ResourceKind.ENDPOINT, endpoint.account_id))
    return endpoint


def model_for(session: Session, actor: Actor, action: Action, name: str) -> Model:
    """Find a model by id or name, with or without the account in front. Raises ModelMissing."""
    model = find_model(session, actor.account_id, name)
    if model is None:
        raise ModelMissing(param="model")
    require(actor, action, Resource(ResourceKind.MODEL, model.account_id))
    return model


def adapter_for(session: Session, actor: Actor, action: Action, name: str) -> Model:
    """An adapter whose upload has ended. Raises ModelMissing."""
    model = model_for(session, actor, action, name)
    if model.kind is not ModelKind.ADAPTER or model.state is not ModelState.READY:
        raise ModelMissing(param="model")
    return model


def job_for(session: Session, actor: Actor, job_id: str) -> Job:
    """Raises NotFound."""
    job = get_job(session, actor.account_id, job_id)
    require(actor, Action.READ, Resource(ResourceKind.JOB, job.account_id))
    return job


def key_for(session: Session, actor: Actor, action: Action, key_id: str) -> ApiKey:
    """Raises NotFound."""
    key = find_key(session, None if actor.every_account else actor.account_id, key_id)
    require(actor, action, Resource(ResourceKind.KEY, key.account_id))
    return key
