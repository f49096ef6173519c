from collections import Counter
from pathlib import Path
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from loradock.checkpoints.architecture import Architecture
from loradock.engine.core import SamplingParams, Sequence, SequenceState
from loradock.engine.dtypes import Dtype
from loradock.engine.kv_cache.kv import BLOCK_SIZE, KVCache
from loradock.engine.scheduling.adapter_slots import QUANTUM
from loradock.engine.scheduling.scheduler import Scheduler
from loradock.engine.scheduling.wait_queue import PATIENCE, WaitingLine

TINY = Architecture("llama", 10, 2, 2, 1, 1, 1, 2, 1e4, 1e-5, 4096)


def scheduler(blocks=16, sequences=8, step=64, slots=2):
    return Scheduler(KVCache(TINY, blocks, Dtype.FLOAT32), sequences, step, slots)


def sequence(number, length=4, adapter=None, **params):
    # Only the load id of an adapter matters here.
    owner = SimpleNamespace(load_id=adapter, path=Path()) if adapter else None
    return Sequence(number, [number] * length, SamplingParams(**params), owner)


def step(scheduler):
    """What the loop does with a step, without computing anything: (id, count) of its rows."""
    rows = scheduler.schedule()
    for row in rows:
        s = row.sequence
        assert len(s.blocks) * BLOCK_SIZE >= s.computed + row.count
        s.computed += row.count
        if s.computed == len(s):
            assert row.logits == 1
            if not s.output:
                scheduler.prompt_computed(s)
            s.output.append(1)
            if len(s.output) >= s.params.max_tokens:
                scheduler.remove(s)
        else:
            assert row.logits == 0
    return [(row.sequence.id, row.count) for row in rows]


def test_a_long_prompt_does_not_hold_up_decoding_or_short_prompts():
    s = scheduler(blocks=100, step=64)
    s.add([sequence(1, 2)])
    assert step(s) == [(1, 2)]
    s.add([sequence(2, 200)])
    s.add([sequence(3, 10)])
    assert step(s) == [(1, 1), (2, 53), (3, 10)]
    assert step(s) == [(1, 1), (3, 1), (2, 62)]


def test_beside_decoding_a_prompt_gets_what_the_pace_allows():
    s = scheduler(blocks=100, step=256)
    s.add([sequence(1, 2)])
    step(s)
    s.pace.record(1, 100, 0.125)
    s.add([sequence(2, 200)])
    assert step(s) == [(1, 1), (2, 40)]
    s.remove(s.running[0])
    assert step(s) == [(2, 160)]


def test_siblings_wait_for_the_prompt_and_share_its_blocks():
    s = scheduler(blocks=100)
    prompt = [sequence(n, 40) for n in (1, 2, 3)]
    for sibling in prompt:
        sibling.prompt = prompt[0].prompt
    s.add(prompt)
    assert step(s) == [(1, 40)]
    assert step(s) == [(1, 1), (2, 8), (3, 8)]


def test_siblings_go_on_when_the_first_is_abandoned():
    s = scheduler()
    prompt = [sequence(n, 40) for n in (1, 2, 3)]
    s.add(prompt)
    s.remove(prompt[1])
    s.remove(prompt[0])
    assert step(s) == [(3, 40)]


def test_an_abandoned_sequence_gives_everything_back():
    s = scheduler()
    first, second = sequence(1, 40), sequence(2, 40)
    s.add([first])
    step(s)
    s.add([second])
    s.remove(second)
    s.remove(first)
    assert (s.cache.usage, len(s.waiting), s.running) == (0, 0, [])


@given(
    st.lists(st.tuples(st.integers(1, 90), st.integers(1, 60), st.integers(0, 3)), min_size=1, max_size=12),
    st.integers(1, 3),
)
def test_everybody_finishes_whatever_comes_together(jobs, slots):
    s = scheduler(blocks=12, sequences=4, step=32, slots=slots)
    sequences = [sequence(n, length, owner, max_tokens=m) for n, (length, m, owner) in enumerate(jobs, 1)]
    for each in sequences:
        s.add([each])
    for _ in range(4000):
        if all(each.state is SequenceState.FINISHED for each in sequences):
            break
        assert step(s), "nobody could go on"
    assert [len(each.output) for each in sequences] == [m for _, m, _ in jobs]
    assert s.cache.usage == 0
    assert len(s.waiting) == 0


def test_a_flood_for_one_adapter_does_not_hold_up_another():
    line = WaitingLine()
    for n in range(1, 51):
        line.add(sequence(n, adapter=1))
    line.add(sequence(51, adapter=2))
    running = []
    for _ in range(2):
        running.append(line.next(running))
        line.take(running[-1])
    assert [s.id for s in running] == [1, 51]
    assert len(line) == 49


def test_long_answers_for_one_adapter_do_not_take_every_place():
    s = scheduler(blocks=200, sequences=32, step=256, slots=8)
    for n in range(1, 101):
        s.add([sequence(n, adapter=1, max_tokens=10_000)])
    step(s)
    assert len(s.running) == 30
    for n in range(101, 104):
        s.add([sequence(n, adapter=n, max_tokens=1)])
    for _ in range(4):
        step(s)
    assert not {101, 102, 103} & {q.id for queue in s.waiting._queues.values() for q in queue}
    assert len(s.running) == 30


def test_the_places_kept_for_newcomers_starve_nobody():
    line = WaitingLine(reserve=2)
    old, busy = sequence(1, adapter=1), [sequence(100, adapter=1)]
    line.add(old)
    for n in range(2, 2 * PATIENCE):
        line.add(sequence(n, adapter=n))
        chosen = line.next(busy, places=1)
        line.take(chosen)
        if chosen is old:
            break
    assert chosen is old


def test_a_queue_is_passed_over_only_so_often():
    line = WaitingLine()
    old, busy = sequence(1, adapter=1), [sequence(100, adapter=1)]
    line.add(old)
    for n in range(2, 2 * PATIENCE):
        line.add(sequence(n, adapter=n))
        chosen = line.next(busy)
        line.take(chosen)
        if chosen is old:
            break
    assert n == PATIENCE + 2


def test_prompt_logprobs_read_every_position_even_of_a_cached_prompt():
    s = scheduler(blocks=100, step=16)
    known, asked = sequence(9, 40, max_tokens=1), sequence(9, 40, prompt_logprobs=0, max_tokens=1)
    s.add([known])
    while s.running or len(s.waiting):
        step(s)
    s.add([asked])
    rows = []
    while asked.computed < 40:
        (row,) = s.schedule()
        rows.append((row.count, row.logits))
        asked.computed += row.count
    assert rows == [(16, 16), (16, 16), (8, 8)]


ARRIVALS = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 12), st.integers(1, 80)), min_size=4, max_size=60)


@given(ARRIVALS, st.integers(1, 4))
def test_nobody_sits_out_more_steps_than_the_bound_whoever_comes_and_goes(arrivals, slots):
    s = scheduler(blocks=2000, sequences=12, step=4096, slots=slots)
    coming = [(gap, sequence(n, 4, owner, max_tokens=m)) for n, (gap, owner, m) in enumerate(arrivals, 1)]
    pause, out, most = 0, Counter(), 0
    while coming or s.running or len(s.waiting):
        while coming and pause >= coming[0][0]:
            s.add([coming.pop(0)[1]])
            pause = 0
        pause += 1
        rows = {number for number, _ in step(s)}
        took = owners(s.running, rows)
        there = owners(s.running)
        most = max(most, len(there))
        assert len(took) <= slots
        for owner in there:
            out[owner] = 0 if owner in took else out[owner] + 1
            assert out[owner] <= 3 * QUANTUM * -(-most // slots)


def owners(sequences, numbers=None):
    return {each.adapter.load_id for each in sequences if numbers is None or each.id in numbers}


def test_a_first_token_does_not_wait_for_the_others_quantum():
    s = scheduler(blocks=500, slots=2, sequences=8)
    for n in (1, 2):
        s.add([sequence(n, adapter=n, max_tokens=200)])
    step(s)
    for n in (3, 4):
        s.add([sequence(n, adapter=n, max_tokens=200)])
    assert [number for number, _ in step(s)] == [3, 4]


def test_a_stream_of_first_tokens_does_not_shut_out_those_under_way():
    s = scheduler(blocks=2000, slots=1, sequences=8)
    old = sequence(1, adapter=1, max_tokens=200)
    s.add([old])
    step(s)
    for n in range(2, 400):
        s.add([sequence(n, adapter=n, max_tokens=2)])
        step(s)
    assert len(old.output) >= 2 * QUANTUM


def test_the_base_model_needs_no_slot():
    s = scheduler(slots=1)
    for n, adapter in ((1, None), (2, 5), (3, 6)):
        s.add([sequence(n, adapter=adapter)])
    assert [number for number, _ in step(s)] == [1, 2]
    assert s.turns.active == {5}


def test_a_finished_adapter_leaves_its_slot_at_once():
    s = scheduler(slots=1)
    s.add([sequence(1, adapter=5, max_tokens=1)])
    step(s)
    assert s.turns.active == frozenset()
