import httpx
import pytest
from fastapi import FastAPI

from loradock.api import errors
from loradock.types.errors import Unavailable
from tests.api.contract import refused


@pytest.fixture
async def client():
    app = FastAPI()
    errors.install(app)

    @app.get("/broken")
    def broken():
        raise ZeroDivisionError("secret detail")

    @app.get("/busy")
    def busy():
        raise Unavailable

    @app.get("/typed")
    def typed(minutes: int):
        return minutes

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_the_unexpected_is_logged_and_not_shown(client, caplog):
    answer = await client.get("/broken")
    message = refused(answer, 500, "the server log", "Request id", type="server_error")
    assert "secret" not in message
    assert "secret detail" in caplog.text
    assert answer.headers["x-should-retry"] == "false"


async def test_our_errors_keep_their_status(client):
    answer = await client.get("/busy")
    refused(answer, 503, "try again", type="service_unavailable")
    assert answer.headers["retry-after"] == "1"


async def test_a_wrong_query_says_what_was_sent_but_not_all_of_it(client):
    message = refused(await client.get("/typed", params={"minutes": "x" * 5000}), 400, "minutes", "integer", "xxx")
    assert len(message) < 300
    refused(await client.get("/typed"), 400, "minutes is missing")
