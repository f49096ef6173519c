"""Loading and unloading adapters while the engine is at work."""

import asyncio
import threading

import httpx
import pytest

from tests.engine import tiny
from tests.engine.conftest import SECRET


def load(http, name, path):
    return http.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": str(path)})


def unload(http, name):
    return http.post("/v1/unload_lora_adapter", json={"lora_name": name})


def say(http, model, **fields):
    body = {"model": model, "prompt": "Once upon a time", "max_tokens": 12, "temperature": 0, **fields}
    return http.post("/v1/completions", json=body)


def text(http, model):
    answer = say(http, model)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["text"]


def test_loading_again_from_the_same_path_is_a_success_from_another_not(http, adapters):
    assert load(http, "a1", adapters["a1"]).status_code == 200
    refused = load(http, "a1", adapters["a2"])
    assert refused.status_code == 400
    assert str(adapters["a1"]) in refused.json()["message"]


def test_refusals_say_the_numbers_and_the_reason(http, adapters, base_folder, tmp_path):
    big = tiny.save_adapter(tmp_path / "big", base_folder, seed=1, rank=9)
    bad = tiny.save_adapter(tmp_path / "bad", base_folder, seed=1, bad=float("nan"))
    cases = {
        ("big", big): ["rank 9", "up to 8"],
        ("bad", bad): ["finite"],
        ("none", tmp_path / "none"): ["no folder"],
        ("base", adapters["a1"]): ["base model"],
    }
    for (name, path), words in cases.items():
        answer = load(http, name, path)
        assert answer.status_code == 400
        assert [word for word in words if word not in answer.json()["message"]] == []
    assert load(http, "a4", adapters["a1"]).status_code == 200
    assert unload(http, "a4").status_code == 200
    assert unload(http, "a4").status_code == 404


def test_a_name_answers_with_what_was_last_loaded_under_it(http, adapters):
    expected = {name: text(http, name) for name in ("a1", "a2")}
    for name in ("a1", "a2", "a1"):
        assert load(http, "moving", adapters[name]).status_code == 200
        assert text(http, "moving") == expected[name]
        assert unload(http, "moving").status_code == 200
        assert say(http, "moving").status_code == 404


async def test_unloading_waits_for_running_requests_while_the_name_is_taken_anew(engine, adapters):
    headers = {"authorization": f"Bearer {SECRET}"}
    async with httpx.AsyncClient(base_url=engine.url, headers=headers, timeout=60) as http:
        assert (await load(http, "old", adapters["a1"])).status_code == 200
        running = asyncio.create_task(say(http, "old", max_tokens=500, ignore_eos=True, n=2))
        while await asyncio.to_thread(engine.metric, "requests_running") < 2:
            await asyncio.sleep(0)
        unloading = [asyncio.create_task(unload(http, "old")) for _ in range(2)]
        while await asyncio.to_thread(engine.metric, "adapters_draining") < 1:
            await asyncio.sleep(0)
        assert (await say(http, "old")).status_code == 404
        assert (await load(http, "old", adapters["a2"])).status_code == 200
        new = (await say(http, "old")).json()["choices"][0]["text"]
        assert new == (await say(http, "a2")).json()["choices"][0]["text"]
        answer = await running
        assert [choice["finish_reason"] for choice in answer.json()["choices"]] == ["length"] * 2
        assert [(await task).status_code for task in unloading] == [200, 200]
        assert (await unload(http, "old")).status_code == 200


async def test_a_flood_for_one_adapter_does_not_hold_up_another(engine, adapters):
    headers = {"authorization": f"Bearer {SECRET}"}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=engine.url, headers=headers, timeout=60, limits=limits) as http:
        for name in ("a1", "a2"):
            assert (await load(http, name, adapters[name])).status_code == 200
        flood = [asyncio.create_task(say(http, "a1", max_tokens=400, ignore_eos=True)) for _ in range(150)]
        while await asyncio.to_thread(engine.metric, "requests_waiting") < 50:
            await asyncio.sleep(0)
        assert (await say(http, "a2", max_tokens=4)).status_code == 200
        # First come, first served would have begun all of the flood before it.
        assert await asyncio.to_thread(engine.metric, "requests_waiting") > 0
        for task in flood:
            task.cancel()
        await asyncio.gather(*flood, return_exceptions=True)


def test_loading_and_unloading_disturb_nobody(engine, http, adapters):
    expected = {model: text(http, model) for model in ("base", "a1", "a2", "a3")}
    wrong, stop = [], threading.Event()

    def keep_asking(model):
        with engine.http as own:
            while not stop.is_set():
                if (said := text(own, model)) != expected[model]:
                    wrong.append((model, said))

    threads = [threading.Thread(target=keep_asking, args=(model,)) for model in expected]
    for thread in threads:
        thread.start()
    for turn in range(25):
        name = ("a1", "a2", "a3")[turn % 3]
        assert load(http, "guest", adapters[name]).status_code == 200
        assert text(http, "guest") == expected[name]
        assert unload(http, "guest").status_code == 200
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("body", [{}, {"lora_name": 1, "lora_path": "x"}, {"lora_name": "x"}])
def test_what_is_missing_is_named(http, body):
    answer = http.post("/v1/load_lora_adapter", json=body)
    assert answer.status_code == 400
    assert "lora_" in answer.json()["message"]
