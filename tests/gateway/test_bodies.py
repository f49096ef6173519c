import asyncio

import pytest

from loradock.gateway.proxy._asgi import ClientGone
from loradock.gateway.proxy.bodies import Bodies
from loradock.types.errors import RequestTooSlow, TooLarge

MIB = 1 << 20


class Sender:
    """Gives a body in pieces; `read` is how much of it was taken."""

    def __init__(self, *pieces):
        self._pieces, self.read = list(pieces), 0

    async def __call__(self):
        piece = self._pieces.pop(0)
        if piece is None:
            return {"type": "http.disconnect"}
        self.read += len(piece)
        return {"type": "http.request", "body": piece, "more_body": bool(self._pieces)}


async def test_a_body_comes_whole():
    bodies = Bodies(limit=4 * MIB)
    assert await bodies.read(Sender(b"ab", b"", b"c"), b"3", "one") == b"abc"
    assert await bodies.read(Sender(b""), None, "two") == b""


async def test_what_is_too_large_is_refused_before_it_is_read_or_once_it_is_seen():
    bodies, announced, chunked = Bodies(limit=2 * MIB), Sender(b"x"), Sender(*[b"x" * MIB] * 9)
    with pytest.raises(TooLarge, match="2 MiB"):
        await bodies.read(announced, b"3000000", "one")
    with pytest.raises(TooLarge, match="2 MiB"):
        await bodies.read(chunked, None, "two")
    assert (announced.read, chunked.read) == (0, 3 * MIB)


@pytest.mark.parametrize("length", [b"%d" % (3 * MIB), None])
async def test_large_bodies_wait_unread_for_room_and_small_ones_pass(length):
    bodies = Bodies(limit=8 * MIB, room=4 * MIB)
    large = [Sender(*[b"x" * MIB] * 3) for _ in range(3)]
    reading = [asyncio.create_task(bodies.read(sender, length, sender)) for sender in large]
    await asyncio.sleep(0.01)
    assert [task.done() for task in reading] == [True, False, False]
    assert max(sender.read for sender in large[1:]) < 3 * MIB
    assert await bodies.read(Sender(b"small"), b"5", "small") == b"small"
    reading[1].cancel()
    bodies.release(large[0])
    assert len(await reading[2]) == 3 * MIB


@pytest.mark.parametrize("length", [b"%d" % (3 * MIB), None])
async def test_who_sends_a_large_body_slowly_leaves_when_another_waits(length, monkeypatch):
    monkeypatch.setattr("loradock.gateway.proxy.bodies._SLOWEST", 1 << 30)
    bodies, never = Bodies(limit=8 * MIB, room=4 * MIB, grace=0.05), asyncio.Event()

    class Slow(Sender):
        async def __call__(self):
            if self.read == 2 * MIB:
                await never.wait()
            return await super().__call__()

    slow = asyncio.create_task(bodies.read(Slow(*[b"x" * MIB] * 3), length, "slow"))
    slow.add_done_callback(lambda _: bodies.release("slow"))
    await asyncio.sleep(0.2)
    assert not slow.done()
    assert len(await asyncio.wait_for(bodies.read(Sender(*[b"x" * MIB] * 3), length, "other"), 20)) == 3 * MIB
    with pytest.raises(RequestTooSlow):
        await slow
    with pytest.raises(TimeoutError):  # who has sent all and waits for the answer stays
        await asyncio.wait_for(bodies.read(Sender(*[b"x" * MIB] * 3), length, "third"), 0.3)


async def test_a_sender_that_leaves_is_noticed():
    with pytest.raises(ClientGone):
        await Bodies(limit=MIB).read(Sender(b"x", None), b"9", "one")
