"""An engine that answers at once, or in a given rhythm: what is left is the gateway before it.

python mock_engine.py --port N        with the interpreter of Loradock, or in place of one that has vLLM:
python mock_engine.py --announce FILE …

Speaks just as much of the replica protocol as a gateway asks for. A streamed answer has `CHUNKS` events, `PAUSE`
seconds apart if the request asks for a `top_p` below 1 (any gateway passes that on), else without a pause.
"""

import argparse
import asyncio
import json
import os
import socket
from pathlib import Path

import uvloop

CHUNKS, PAUSE = 32, 0.002
USAGE = {"prompt_tokens": 9, "completion_tokens": CHUNKS, "total_tokens": 9 + CHUNKS}
_HEAD = {"id": "chatcmpl-1", "created": 1, "model": "mock"}


def _json(body: dict) -> bytes:
    return json.dumps(body).encode()


def _event(**fields: object) -> bytes:
    return b"data: " + _json({**_HEAD, "object": "chat.completion.chunk", **fields}) + b"\n\n"


_CHOICE = {"index": 0, "finish_reason": None}
EVENT = _event(choices=[{**_CHOICE, "delta": {"role": "assistant", "content": " word"}}])
LAST = _event(choices=[{**_CHOICE, "finish_reason": "stop", "delta": {}}])
LAST += _event(choices=[], usage=USAGE) + b"data: [DONE]\n\n"
_MESSAGE = {"role": "assistant", "content": " word" * CHUNKS}
_PROBE = {"token_logprobs": [-1.0], "tokens": ["a"], "top_logprobs": [{}], "text_offset": [0]}
PLAIN = _json(
    {
        **_HEAD,
        "object": "chat.completion",
        "usage": USAGE,
        "choices": [{"index": 0, "finish_reason": "stop", "text": " word", "message": _MESSAGE, "logprobs": None}],
    }
)
PROBED = _json({**_HEAD, "usage": USAGE, "choices": [{"index": 0, "text": " word", "logprobs": _PROBE}]})


def _answer(body: bytes, kind: bytes = b"application/json") -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s" % (kind, len(body), body)


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Mock(asyncio.Protocol):
    names: list[str] = ["mock"]
    adapters: dict[str, str] = {}
    tasks: set[asyncio.Future] = set()

    def connection_made(self, transport) -> None:
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport, self._got = transport, b""

    def data_received(self, data: bytes) -> None:
        self._got += data
        while (end := self._got.find(b"\r\n\r\n")) >= 0:
            head = self._got[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._got) < end + 4 + length:
                return
            body, self._got = self._got[end + 4 : end + 4 + length], self._got[end + 4 + length :]
            self._reply(head.split(b" ", 2)[1], body)

    def _reply(self, path: bytes, body: bytes) -> None:
        if path.endswith(b"completions"):
            self._complete(body)
        elif path == b"/v1/models":
            self._transport.write(_answer(self._models()))
        elif path == b"/v1/load_lora_adapter":
            asked = json.loads(body)
            self.adapters[asked["lora_name"]] = asked["lora_path"]
            self._transport.write(_answer(b"loaded", b"text/plain"))
        else:
            self._transport.write(_answer(b"{}"))

    def _models(self) -> bytes:
        data = [
            {"id": name, "object": "model", "owned_by": "mock", "root": None, "parent": None} for name in self.names
        ]
        data += [{"id": name, "root": path, "parent": self.names[0]} for name, path in self.adapters.items()]
        return _json({"object": "list", "data": data})

    def _complete(self, body: bytes) -> None:
        asked = json.loads(body)
        if not asked.get("stream"):
            self._transport.write(_answer(PROBED if asked.get("logprobs") else PLAIN))
        elif asked.get("top_p", 1) < 1:
            task = asyncio.ensure_future(self._stream_slowly())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        else:
            self._transport.write(STREAM_HEAD + _chunk(EVENT))
            for _ in range(CHUNKS - 1):
                self._transport.write(_chunk(EVENT))
            self._transport.write(_chunk(LAST) + b"0\r\n\r\n")

    async def _stream_slowly(self) -> None:
        self._transport.write(STREAM_HEAD)
        for _ in range(CHUNKS):
            self._transport.write(_chunk(EVENT))
            await asyncio.sleep(PAUSE)
        self._transport.write(_chunk(LAST) + b"0\r\n\r\n")


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--announce", type=Path)
    parser.add_argument("--served-model-name", nargs="+", default=["mock"])
    options, _ = parser.parse_known_args()
    Mock.names = options.served_model_name
    server = await asyncio.get_running_loop().create_server(Mock, "127.0.0.1", options.port)
    if options.announce:
        draft = options.announce.with_suffix(".draft")
        draft.write_text(json.dumps({"pid": os.getpid(), "port": server.sockets[0].getsockname()[1]}))
        draft.replace(options.announce)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
