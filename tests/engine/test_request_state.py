"""What comes back for a request's generations."""

from types import SimpleNamespace

from loradock.engine.generation.generation import Ended
from loradock.engine.service.request_state import RequestState


class Choice:
    """Counts how often it was asked whether it has ended."""

    asked = 0

    def __init__(self):
        self._finish = None

    @property
    def finish(self):
        Choice.asked += 1
        return self._finish

    def end(self):
        self._finish = "length"
        return "end"


async def test_each_choice_of_a_request_of_thousands_costs_the_same():
    answer = RequestState(SimpleNamespace(warnings=()), None, None, None)
    answer.choices = [Choice() for _ in range(5000)]
    for choice in answer.choices:
        answer.receiver(choice)
        answer._events.put_nowait((choice, Ended()))
        answer._events.put_nowait((choice, Ended()))
    deltas = [delta async for _, delta in answer.deltas()]
    assert deltas == ["end"] * 5000
    assert Choice.asked < 10 * 5000
