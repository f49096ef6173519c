"""What becomes of the others when a step goes wrong."""

import threading

import numpy as np
import pytest

from loradock.checkpoints.architecture import Architecture
from loradock.engine.core import Logits, SamplingParams, Sequence
from loradock.engine.dtypes import Dtype
from loradock.engine.generation.generation import Ended, Generation, TokenSampled
from loradock.engine.generation.sampling import largest
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.process.assembly import _send
from loradock.engine.scheduling.loop import MAX_FAILURES, EngineLoop
from loradock.engine.scheduling.scheduler import Scheduler
from loradock.types.errors import BadRequest

TINY = Architecture("llama", 10, 2, 2, 1, 1, 1, 2, 1e4, 1e-5, 4096)


class Scripted:
    """A runner whose logits grow with the token id; a prompt of 9s breaks the step, one of 8s gives NaN."""

    def step(self, rows):
        if any(row.sequence.prompt[0] == 9 for row in rows):
            raise RuntimeError("no such matrix")
        for row in rows:
            row.sequence.computed += row.count
        values = [
            [float("nan")] * 10 if r.sequence.prompt[0] == 8 else list(range(10)) for r in rows for _ in range(r.logits)
        ]
        logits = np.array(values, np.float32)
        return Logits([logits], *largest(logits))


@pytest.fixture
def loop():
    fatal = []
    cache = KVCache(TINY, 64, Dtype.FLOAT32)
    made = EngineLoop(Scripted(), Scheduler(cache, 8, 64), _deliver, fatal.append)
    made.fatal = fatal
    made.start()
    yield made
    made.stop(5)
    assert cache.usage == 0


def _deliver(events):
    for generation, event in events:
        generation.send(event)


def run(loop, *prompts, grammars=None, params=None):
    """The events of each prompt, all submitted together; a grammar and settings by the prompt's token."""
    results = [([], threading.Event()) for _ in prompts]

    def sender(events, done):
        def send(event):
            events.append(event)
            if isinstance(event, Ended) or (isinstance(event, TokenSampled) and event.finish):
                done.set()

        return send

    generations = [
        Generation(
            Sequence(
                n, [token] * 3, SamplingParams(**{"max_tokens": 3, "temperature": 0, **(params or {}).get(token, {})})
            ),
            sender(*result),
            frozenset(),
            (grammars or {}).get(token),
        )
        for n, (token, result) in enumerate(zip(prompts, results, strict=True), 1)
    ]
    for generation in generations:
        generation.sequence.constrained = generation.grammar is not None
    loop.call(lambda: [loop.submit([generation]) for generation in generations]).result(5)
    for _, done in results:
        assert done.wait(5)
    return [events for events, _ in results]


def tokens(events):
    return [event.token for event in events if isinstance(event, TokenSampled)]


def test_a_failing_step_fails_its_requests_and_the_next_ones_go_on(loop):
    ((*_, ended),) = run(loop, 9)
    assert "no such matrix" in ended.error.message
    assert [tokens(events) for events in run(loop, 1, 2)] == [[9, 9, 9]] * 2


def test_numbers_that_are_not_finite_fail_only_their_own_request(loop):
    good, (*_, ended), other = run(loop, 1, 8, 2)
    assert "not finite" in ended.error.message
    assert tokens(good) == tokens(other) == [9, 9, 9]


def test_an_engine_that_fails_again_and_again_gives_up_and_says_why(loop):
    for _ in range(MAX_FAILURES - 1):
        run(loop, 9)
    ((ended,),) = run(loop, 9)
    assert ended.error is not None
    loop._thread.join(5)
    assert "no such matrix" in loop.fatal[0]


class Failing:
    """A grammar that goes wrong at some point."""

    finished = False

    def __init__(self, at, error):
        self.at, self.error = at, error

    def constrain(self, logits):
        if self.at == "constrain":
            raise self.error
        if self.at == "dead end":
            logits[:] = -np.inf

    def accept(self, token):
        if self.at == "accept":
            raise self.error


class Panic(BaseException):
    """As libraries in Rust raise."""


@pytest.mark.parametrize("error", [RuntimeError("<state>Parser: {…}"), Panic("<state>Parser: {…}"), BadRequest("why")])
@pytest.mark.parametrize("at", ["constrain", "accept"])
def test_a_failing_grammar_ends_its_own_request_in_our_words_and_never_counts(loop, at, error):
    for _ in range(MAX_FAILURES + 1):
        good, (*_, ended), other = run(loop, 1, 2, 3, grammars={2: Failing(at, error)})
        assert tokens(good) == tokens(other) == [9, 9, 9]
        assert "state" not in ended.error.message
        assert "engine failed" not in ended.error.message
        assert ended.error.message == "why" or not isinstance(error, BadRequest)
    assert loop.fatal == []


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_row_that_nothing_can_be_chosen_from_ends_its_own_request(loop, temperature):
    chosen = {token: {"temperature": temperature, "logit_bias": {9: 50}} for token in (1, 2, 3)}
    good, (*_, ended), other = run(loop, 1, 2, 3, grammars={2: Failing("dead end", None)}, params=chosen)
    assert tokens(good) == tokens(other) == [9, 9, 9]
    assert ended.error.status == 400
    assert "No token is left" in ended.error.message


@pytest.mark.parametrize(
    "settings",
    [
        {"logit_bias": {10_000: 1.0}},
        {"prompt_logprobs": -1},
        {"repetition_penalty": 0.0, "presence_penalty": float("nan")},
        {"seed": "x", "temperature": 1},
        {"top_k": "x", "temperature": 1},
    ],
)
def test_settings_that_nobody_checked_end_only_their_own_request(loop, settings):
    seeded = {"temperature": 1.0, "logprobs": 2, "seed": 5}
    alone = [tokens(events) for events in run(loop, 1, 3, params={1: seeded, 3: seeded})]
    for _ in range(MAX_FAILURES + 1):
        good, (*_, ended), other = run(loop, 1, 2, 3, params={1: seeded, 2: settings, 3: seeded})
        assert [tokens(good), tokens(other)] == alone
        assert ended.error is not None
    assert loop.fatal == []


def test_an_event_that_cannot_be_delivered_keeps_none_of_the_others():
    received = []

    def fail(event):
        raise RuntimeError("gone")

    bad = Generation(Sequence(1, [1], SamplingParams()), fail, frozenset())
    good = Generation(Sequence(2, [1], SamplingParams()), received.append, frozenset())
    _send([(bad, Ended()), (good, Ended())])
    assert received == [Ended()]


def test_steps_tell_how_much_of_a_prompt_the_next_may_hold(loop):
    pace = loop.scheduler.pace
    assert pace.prompt_tokens(1, 1, 10**9) == 10**9 - 1
    prompt = Generation(Sequence(1, [1] * 40, SamplingParams(max_tokens=1)), lambda event: None, frozenset())
    loop.submit([prompt])
    while loop.steps == 0:
        loop.call(int).result(5)
    assert pace.prompt_tokens(1, 1, 10**9) < 10**9 - 1
