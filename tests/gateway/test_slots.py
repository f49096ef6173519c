"""Turns between adapters where the engine knows none."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loradock.gateway.routing.slots import Slots
from loradock.gateway.routing.upstream import Upstream


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Requests:
    """`begin` one; it holds its turn until `end`."""

    def __init__(self, slots: Slots) -> None:
        self.slots, self.at_work, self.ends, self.order = slots, Counter(), {}, []

    async def begin(self, number: int, name: str) -> asyncio.Task:
        self.ends[number] = asyncio.Event()
        task = asyncio.create_task(self._run(number, name))
        await asyncio.sleep(0)
        return task

    async def _run(self, number: int, name: str) -> None:
        async with self.slots.hold(name):
            self.order.append(number)
            self.at_work[name] += 1
            try:
                await self.ends[number].wait()
            finally:
                self.at_work[name] -= 1

    async def end(self, number: int) -> None:
        self.ends[number].set()
        for _ in range(5):
            await asyncio.sleep(0)


async def test_an_adapter_without_a_slot_gets_in_though_the_others_never_pause():
    clock = Clock()
    requests = Requests(Slots(2, patience=2, clock=clock))
    tasks = [await requests.begin(n, name) for n, name in enumerate("ab")]
    tasks.append(await requests.begin(2, "c"))
    tasks.append(await requests.begin(3, "a"))  # the line is young: who has a slot goes on
    assert requests.order == [0, 1, 3]
    clock.now = 2
    tasks += [await requests.begin(n, name) for n, name in ((4, "a"), (5, "b"))]
    assert requests.order == [0, 1, 3]
    await requests.end(0)
    assert requests.order == [0, 1, 3]
    await requests.end(1)  # the last of b
    assert requests.order == [0, 1, 3, 2, 4]
    for number in (2, 3, 4, 5):
        await requests.end(number)
    assert requests.order == [0, 1, 3, 2, 4, 5]
    await asyncio.gather(*tasks)


async def test_one_that_leaves_the_line_does_not_block_it():
    requests = Requests(Slots(1, patience=0))
    first = await requests.begin(0, "a")
    gone, last = await requests.begin(1, "b"), await requests.begin(2, "a")
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert requests.order == [0, 2]
    for number in (0, 2):
        await requests.end(number)
    await asyncio.gather(first, last)


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.booleans()), max_size=40), st.integers(1, 3))
def test_never_more_adapters_than_slots_and_everybody_gets_in(arrivals, count):
    async def play() -> None:
        requests = Requests(Slots(count, patience=0))
        tasks = {}
        for number, (name, leaves) in enumerate(arrivals):
            tasks[number] = await requests.begin(number, name)
            assert sum(busy > 0 for busy in requests.at_work.values()) <= count
            if leaves:
                tasks.pop(number).cancel()
        await asyncio.sleep(0)
        for _ in arrivals:
            for number in [n for n in requests.order if n in tasks]:
                await requests.end(number)
                assert sum(busy > 0 for busy in requests.at_work.values()) <= count
        assert all(task.done() for task in tasks.values())
        assert not requests.slots._at_work
        assert not requests.slots._line

    asyncio.run(play())


async def test_the_base_model_needs_no_slot_and_without_slots_nobody_waits():
    shared, free = (Upstream(f"rep_{n}", "http://x", "secret") for n in range(2))
    shared.share(1)
    async with shared.turn("a"), shared.turn("a"), shared.turn(None), free.turn("a"), free.turn("b"):
        pass
