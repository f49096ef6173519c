"""What an answer's pieces become on their way to the socket."""

import asyncio

from loradock.server.corking import CorkedTransport


class Recording(asyncio.Transport):
    def __init__(self):
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data):
        self.written.append(data)

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed


def corked() -> tuple[Recording, CorkedTransport]:
    under = Recording()
    return under, CorkedTransport(under, asyncio.get_running_loop())


async def test_the_head_goes_out_with_the_first_of_the_body():
    under, transport = corked()
    transport.write(b"head ")
    assert under.written == []
    transport.write(b"body")
    transport.write(b"more")
    await asyncio.sleep(0)
    assert under.written == [b"head body", b"more"]


async def test_a_head_is_held_for_one_round_only():
    under, transport = corked()
    transport.write(b"head")
    await asyncio.sleep(0)
    assert under.written == [b"head"]
    transport.write(b"body")
    assert under.written == [b"head", b"body"]


async def test_closing_loses_nothing():
    under, transport = corked()
    transport.write(b"head")
    transport.close()
    await asyncio.sleep(0)
    assert under.written == [b"head"]
    assert under.closed
    assert transport.is_closing()
