"""Health checks of every kind of engine, and of none."""

import contextlib

import pytest
from aiohttp import web

from loradock.replicas.http import ReplicaHttp
from loradock.replicas.vitals import Answer, Vitals, VitalsReader

METRICS = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 2.0
vllm:num_requests_waiting{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting_by_reason{engine="0"} 9.0
vllm:iteration_tokens_total_bucket{engine="0",le="1.0"} 7.0
vllm:iteration_tokens_total_count{engine="0"} 40.0
vllm:iteration_tokens_total_sum{engine="0"} 5.0
vllm:generation_tokens_total{engine="0"} 100.0
vllm:prompt_tokens_total{engine="0"} 1000.0
"""


@contextlib.asynccontextmanager
async def reader(timeout=5.0, **answers):
    """Of an engine that answers so; `asked` are the paths it was asked for."""
    asked = []

    async def answer(request):
        asked.append(request.path)
        return await answers[request.path[1:]](request) if request.path[1:] in answers else web.Response(status=404)

    app = web.Application()
    app.router.add_get("/{path}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with ReplicaHttp() as http:
            yield VitalsReader(http, f"http://127.0.0.1:{runner.addresses[0][1]}", {}, timeout), asked
    finally:
        await runner.cleanup()


def says(response, **options):
    async def answer(_):
        return web.json_response(response, **options) if isinstance(response, dict) else web.Response(text=response)

    return answer


async def test_our_engine_tells_in_its_health():
    told = {"status": "ok", "steps": 7, "work": 2, "compute_seconds": 1.5}
    async with reader(health=says(told)) as (vitals, asked):
        assert await vitals.read() == Vitals(Answer.GOOD, "", 7, 2, 1.5)
        assert asked == ["/health"]


async def test_vllm_tells_in_its_metrics():
    async with reader(health=says(""), metrics=says(METRICS)) as (vitals, _):
        assert await vitals.read() == Vitals(Answer.GOOD, "", 1140, 5, None)


async def test_one_without_metrics_is_asked_for_them_once():
    async with reader(health=says("")) as (vitals, asked):
        assert [await vitals.read() for _ in range(3)] == [Vitals(Answer.GOOD)] * 3
        assert asked.count("/metrics") == 1


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (
            says({"status": "failed", "reason": "the compute thread failed"}, status=503),
            "status 503 the compute thread",
        ),
        (says({"status": "loading"}, status=503), "status 503"),
    ],
)
async def test_one_that_is_not_ready_says_why(answer, why):
    async with reader(health=answer) as (vitals, _):
        told = await vitals.read()
        assert told.answer is Answer.FAILED
        assert told.why.startswith(why)


async def test_one_that_loads_says_what_it_is_doing():
    async with reader(health=says({"status": "loading", "reason": "packing"}, status=503)) as (vitals, _):
        assert await vitals.read() == Vitals(Answer.FAILED, "status 503 packing", doing="packing")
    async with reader(health=says({"status": "failed", "reason": "broken"}, status=503)) as (vitals, _):
        assert (await vitals.read()).doing == ""


async def test_one_that_does_not_answer_in_time():
    import asyncio

    async def hang(_):
        await asyncio.sleep(30)

    async with reader(0.2, health=hang) as (vitals, _):
        assert (await vitals.read()).answer is Answer.TIMED_OUT


async def test_nobody_there_is_a_failed_check_with_a_reason():
    async with ReplicaHttp() as http:
        told = await VitalsReader(http, "http://127.0.0.1:9", {}, 5).read()
    assert told.answer is Answer.FAILED
    assert "Connect call failed" in told.why
