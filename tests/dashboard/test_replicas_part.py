"""The table of replicas, in every state that one can be in."""

from types import SimpleNamespace

import pytest

from loradock.checkpoints.memory_plan import MemoryPlan
from loradock.control.views import ReplicaFacts
from loradock.dashboard.render import fragment
from loradock.types.enums import ReplicaState


@pytest.mark.parametrize("state", ReplicaState)
def test_every_state_is_shown_in_words_with_the_memory_taken_and_planned(state):
    plan = MemoryPlan(2**30, 2**29, 0, 0, 2048)
    replica = ReplicaFacts("rep_1", state, 0, "why not", {}, {}, plan, 5 << 28)
    endpoint = SimpleNamespace(id="endpoint-1", deployment=SimpleNamespace(desired="STARTED"))
    text = fragment("endpoint/replicas.html", view=SimpleNamespace(endpoint=endpoint, replicas=[replica]))
    assert "1.2 of 1.5 GiB" in text
    assert "why not" in text
    assert ("gets no requests" in text) is (state is ReplicaState.UNREADY)
