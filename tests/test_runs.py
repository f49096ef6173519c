"""One thing done to many: every row has its result, a stop leaves out what has not begun, others see nothing of it."""

import asyncio

import pytest

from loradock.dashboard.runs import Progress, Run, Runs, lines_of
from loradock.types.errors import BadRequest, NotBound, NotFound


def _run(*names: str, account: str = "acct_1") -> Run:
    return Run(account, "Attaching", " to harbour", "/ui/models", lines_of(names))


async def _over(run: Run) -> None:
    async with asyncio.timeout(5):
        while not run.over:
            await asyncio.sleep(0)


async def test_a_row_that_fails_stops_no_other_and_stands_first():
    async def act(name: str) -> str:
        if name == "b":
            raise NotBound
        if name == "c":
            raise RuntimeError("its text is for the log only")
        return f"{name} is attached"

    runs = Runs()
    run = runs.start(_run("a", "b", "c", "d", "a"), act)
    await _over(run)
    told = [(line.name, line.progress, line.message) for line in run.shown(10)]
    assert [name for name, _, _ in told] == ["b", "c", "a", "d"]
    assert told[0][1:] == (Progress.FAILED, "adapter is not bound to endpoint")
    assert told[1][1] is Progress.FAILED and "log only" not in told[1][2]
    assert told[2][1:] == (Progress.DONE, "a is attached")
    assert run.ended == len(run.lines) == 4


async def test_a_stop_lets_the_row_in_hand_end_and_leaves_out_the_rest():
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def act(name: str) -> str:
        begun.set()
        await may_end.wait()
        return name

    run = Runs().start(_run("a", "b", "c"), act)
    await begun.wait()
    run.stopping = True
    may_end.set()
    await _over(run)
    assert [line.progress for line in run.lines] == [Progress.DONE, Progress.LEFT, Progress.LEFT]


async def test_the_last_twenty_runs_can_be_looked_at():
    async def act(name: str) -> str:
        return name

    runs, done = Runs(), []
    for _ in range(25):
        done.append(runs.start(_run("a"), act))
        await _over(done[-1])
        kept = [run for run in done if run.id in runs._runs]
        assert kept == done[-20:]


async def test_a_run_is_its_accounts_own_and_few_go_on_at_once():
    async def act(name: str) -> str:
        await asyncio.Event().wait()
        return name

    runs = Runs()
    going = [runs.start(_run("a"), act) for _ in range(5)]
    assert runs.find("acct_1", going[0].id) is going[0]
    with pytest.raises(NotFound):
        runs.find("acct_2", going[0].id)
    with pytest.raises(BadRequest, match="still being worked off"):
        runs.start(_run("a"), act)
    other = runs.start(_run("a", account="acct_2"), act)
    runs.close()
    for run in (*going, other):
        await _over(run)
