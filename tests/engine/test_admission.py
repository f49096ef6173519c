"""Who may wait, counted at acceptance."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import httpx
import pytest

from loradock.engine.errors import TooBusy
from loradock.engine.scheduling.admission import Admission, Owner
from tests.engine.conftest import SECRET, launch, wait_ready

BASE, OTHER = Owner("base", "one"), Owner("a1", "two")


class Engine:
    """What admission reads of the loop: its counts move only when a test moves them."""

    def __init__(self, blocks=1000):
        self.waiting = self.running = self.taken = 0
        self.scheduler = SimpleNamespace(cache=SimpleNamespace(available=blocks))


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def accepted(admission, owner, tries, count=1):
    places = []
    for _ in range(tries):
        try:
            places.append(admission.enter(owner, count))
        except TooBusy:
            continue
    return places


def test_a_burst_is_counted_before_any_of_it_has_reached_the_engine():
    assert len(accepted(Admission(Engine(), 2, 8), BASE, 30)) == 10


def test_places_that_are_taken_are_not_free():
    engine = Engine()
    admission = Admission(engine, 4, 8)
    first = accepted(admission, BASE, 3)
    for place in first:
        place.hand_over(1)
    engine.taken, engine.running = 3, 3
    assert len(accepted(admission, BASE, 30)) == 9


def test_who_has_nothing_under_way_finds_a_place_after_a_flood():
    admission = Admission(Engine(), 1, 32)
    assert len(accepted(admission, BASE, 100)) == 33
    (place, *more) = accepted(admission, OTHER, 100)
    assert more == []
    assert len(accepted(admission, Owner("base", "two"), 2)) == 1
    assert accepted(admission, Owner("base", "three"), 2) == []
    place.leave()
    assert len(accepted(admission, Owner("base", "three"), 2)) == 1


def test_a_place_that_is_left_is_free_again():
    admission = Admission(Engine(), 1, 2)
    places = accepted(admission, BASE, 9)
    places[0].leave()
    places[0].leave()
    assert len(accepted(admission, BASE, 9)) == 1


def test_a_request_of_more_than_may_wait_gets_in_only_when_nobody_waits():
    engine = Engine()
    admission = Admission(engine, 1, 2)
    assert len(accepted(admission, BASE, 2, count=9)) == 1
    assert accepted(admission, BASE, 1) == []


def test_what_has_to_wait_for_the_cache_counts_as_waiting():
    admission = Admission(Engine(blocks=10), 64, 2)
    places = accepted(admission, BASE, 5)
    for place in places[:4]:
        place.hand_over(5)
    with pytest.raises(TooBusy):
        places[4].hand_over(5)


def test_how_long_to_wait_is_the_time_in_which_one_ends():
    clock, engine = Clock(), Engine()
    admission = Admission(engine, 2, 2, clock)
    for place in accepted(admission, BASE, 4):
        clock.now += 7
        place.hand_over(1)
        place.leave()
    engine.taken, engine.running, engine.waiting = 4, 2, 2
    admission.enter(BASE, 1)
    with pytest.raises(TooBusy) as caught:
        admission.enter(BASE, 1)
    assert caught.value.headers() == {"retry-after": "7"}


def test_a_burst_at_a_real_engine(tmp_path, base_folder):
    engine = wait_ready(launch(tmp_path, base_folder, "--max-num-seqs", "2", "--max-waiting", "8"))
    body = {"model": "base", "prompt": "x", "max_tokens": 300, "ignore_eos": True}

    def ask(stream):
        return httpx.post(
            f"{engine.url}/v1/completions",
            json={**body, "stream": stream},
            headers={"authorization": f"Bearer {SECRET}"},
            timeout=60,
        )

    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(ask, [False, True] * 15))
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(answers) - len(refused) >= 10
    assert all(answer.status_code == 503 and 1 <= int(answer.headers["retry-after"]) <= 60 for answer in refused)
    assert refused
    engine.process.terminate()
    assert engine.process.wait(timeout=20) == 0
