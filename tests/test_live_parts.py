"""Live parts of pages: one ticker for all who look, only what changed, an end for everybody when the server stops."""

import asyncio

from loradock.dashboard.live import Live, Parts
from loradock.types.errors import EndpointMissing


class Source:
    """Something to look at; counts how often it was read."""

    def __init__(self) -> None:
        self.html = {"head": "<h1>one</h1>\n<p>x</p>", "rows": "none"}
        self.reads = 0
        self.gone = False

    async def read(self) -> Parts:
        self.reads += 1
        if self.gone:
            raise EndpointMissing
        return Parts(dict(self.html), pause=0.01)


async def always() -> bool:
    return True


async def _events(stream) -> str:
    return (await anext(stream)).decode()


async def test_first_everything_then_only_what_changed():
    live, source = Live(), Source()
    stream = live.follow("key", source.read, always)
    assert (await _events(stream)).startswith("retry: ")
    assert await _events(stream) == (
        "event: head\ndata: <h1>one</h1>\ndata: <p>x</p>\n\n" + "event: rows\ndata: none\n\n"
    )
    source.html["rows"] = "some"
    assert await _events(stream) == "event: rows\ndata: some\n\n"
    await stream.aclose()


async def test_all_viewers_share_a_ticker_that_ends_with_the_last():
    live, source = Live(), Source()
    first, second = live.follow("key", source.read, always), live.follow("key", Source().read, always)
    for stream in (first, second):
        await _events(stream)
        assert "<h1>one</h1>" in await _events(stream)
    await first.aclose()
    source.html["head"] = "two"
    assert "two" in await _events(second)  # from the first's source: there is but one ticker
    await second.aclose()
    await asyncio.sleep(0)
    reads = source.reads
    await asyncio.sleep(0.05)
    assert source.reads == reads


async def test_streams_end_when_the_thing_is_gone_and_when_the_server_stops():
    for end in ("gone", "stop"):
        live, source = Live(), Source()
        stream = live.follow("key", source.read, always)
        await _events(stream)
        await _events(stream)
        source.gone = end == "gone"
        if end == "stop":
            live.close()
        assert [event async for event in stream] == []


async def test_whoever_may_no_longer_look_is_told_nothing_more_and_the_others_are():
    live, source, allowed = Live(trust_s=0), Source(), True

    async def still() -> bool:
        return allowed

    leaving, staying = live.follow("key", source.read, still), live.follow("key", source.read, always)
    for stream in (leaving, staying):
        await _events(stream)
        assert "<h1>one</h1>" in await _events(stream)
    allowed = False
    source.html["head"] = "secret"
    assert [event async for event in leaving] == []
    assert "secret" in await _events(staying)
    await staying.aclose()


async def test_a_stream_without_news_is_sent_comments():
    live, source = Live(quiet_s=0.05), Source()
    stream = live.follow("key", source.read, always)
    for begin in ("retry: ", "event: head", ": "):
        assert (await _events(stream)).startswith(begin)
    source.html["rows"] = "some"
    while (news := await _events(stream)).startswith(": "):
        assert news.endswith("\n\n")
    assert news.startswith("event: rows")
    await stream.aclose()
