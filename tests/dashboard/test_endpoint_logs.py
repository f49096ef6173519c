"""Which log of an endpoint's replicas is shown first, and how each is called."""

from loradock.control.views import ReplicaFacts
from loradock.dashboard.pages.endpoints.endpoint_logs import _likeliest, _named
from loradock.types.enums import ReplicaState


def _replica(name: str, failure: str | None = None) -> ReplicaFacts:
    state = ReplicaState.FAILED if failure else ReplicaState.READY
    return ReplicaFacts(id=name, state=state, in_flight=0, failure=failure, adapters={}, refused={})


def test_a_failed_one_comes_before_those_that_run_and_these_before_lost_ones():
    logged = ["rep_lost", "rep_lost_later", "rep_fine", "rep_failed"]
    running = [_replica("rep_fine"), _replica("rep_failed", "killed by signal 9")]
    assert _likeliest(logged, running) == "rep_failed"
    assert _likeliest(logged, running[:1]) == "rep_fine"
    assert _likeliest(logged[:2], []) == "rep_lost_later"
    assert _likeliest([], running) is None
    named = [("rep_fine", ""), ("rep_failed", "failed"), ("rep_lost", "lost"), ("rep_lost_later", "lost")]
    assert _named(logged, running) == named
