"""The head of an answer and the first of its body in one system call and one segment, as a corked socket sends them."""

import asyncio


class CorkedTransport:
    """A transport for one answer. Its first piece, the head, is held for the next one, or until the event loop's next
    round: a stream whose first event is yet to come still begins at once."""

    __slots__ = ("_flush", "_head", "_loop", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head: bytes | None = None
        self._flush: asyncio.Handle | None = None
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if self._flush is None:
            self._head = data
            self._flush = self._loop.call_soon(self.flush)
        elif self._head is None:
            self._transport.write(data)
        else:
            self._flush.cancel()
            head = self._head
            self._head = None
            self._transport.write(head + data)

    def flush(self) -> None:
        """Write the head, if it is still held."""
        if self._head is not None:
            self._transport.write(self._head)
            self._head = None

    def close(self) -> None:
        self.flush()
        self._transport.close()
