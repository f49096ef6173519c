"""Added time with one request at a time, and CPU time per request and per streamed answer with sixteen."""

import asyncio
import json
import socket
import statistics
import time

import aiohttp
import psutil

from benchmarks.client import Failed
from benchmarks.environments import Unavailable
from benchmarks.gateways.peers import TARGETS, Running, Target
from benchmarks.records import Records

CLIENTS, ROUNDS, SECONDS = 16, 3, 2.0
_PROMPT = "Tell me about rain. " * 20


async def add_gateways(records: Records) -> None:
    """All are up at once and take turns."""
    if records.where(kind="gateway"):
        return
    mock = await TARGETS[0].start(0)
    running: dict[Target, Running] = {TARGETS[0]: mock}
    try:
        for target in TARGETS[1:]:
            try:
                target.prepare()
                running[target] = await target.start(mock.port)
            except (Unavailable, Failed) as reason:
                records.missing[target.name] = str(reason)
                print(f"{target.title} is left out: {reason}", flush=True)
        rows = []
        for turn in range(-1, ROUNDS):  # the first warms up
            for target, server in running.items():
                row = await _measure(server, SECONDS if turn >= 0 else SECONDS / 4)
                rows.append({"kind": "gateway", "peer": target.name, "repetition": turn, **row})
        for row in rows:
            if row["repetition"] >= 0:
                records.add(**row)
    finally:
        for server in running.values():
            await asyncio.to_thread(server.tree.end)


async def _measure(server: Running, seconds: float) -> dict[str, float]:
    row: dict[str, float] = {}
    for name, fields in (("plain", {}), ("stream", {"stream": True})):
        took = await asyncio.to_thread(_alone, server, body_for(server, **fields), seconds)
        row[f"{name}_ms_p50"] = 1000 * statistics.median(took)
        row[f"{name}_ms_p99"] = 1000 * sorted(took)[int(0.99 * len(took))]
    paced = body_for(server, stream=True, top_p=0.5)
    for name, body in (("plain", body_for(server)), ("paced_stream", paced)):
        cpu = _cpu(server)
        count = await crowd(server, body, seconds)
        row[f"{name}_cpu_ms"] = 1000 * (_cpu(server) - cpu) / count
        row[f"{name}_per_s"] = count / seconds
    own = psutil.Process(server.tree.pid).memory_info().rss / 2**20
    row["rss_mib"] = server.tree.memory().rss if server.whole else own
    return row


def body_for(server: Running, **fields: object) -> bytes:
    messages = [{"role": "user", "content": _PROMPT}]
    return json.dumps({"model": server.model, "messages": messages, "max_tokens": 32, **fields}).encode()


def _cpu(server: Running) -> float:
    if server.whole:
        return server.tree.cpu_seconds()
    spent = psutil.Process(server.tree.pid).cpu_times()
    return spent.user + spent.system


def _alone(server: Running, body: bytes, seconds: float) -> list[float]:
    """Seconds to the end of each answer. A bare socket: a client library would cost more than the gateways."""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {server.key}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    message, took = head.encode() + body, []
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until or len(took) < 20:
            begun = time.perf_counter()
            connection.sendall(message)
            _read_answer(connection)
            took.append(time.perf_counter() - begun)
    return took


def _read_answer(connection: socket.socket) -> None:
    got = b""
    while b"\r\n\r\n" not in got:
        got += _more(connection)
    head, _, rest = got.partition(b"\r\n\r\n")
    if b" 200 " not in head[:20]:
        raise Failed(got[:400].decode(errors="replace"))
    lowered = head.lower()
    at = lowered.find(b"content-length:")
    if at >= 0:
        missing = int(lowered[at + 15 :].split(b"\r\n", 1)[0]) - len(rest)
        while missing > 0:
            missing -= len(_more(connection))
    else:
        while not rest.endswith(b"0\r\n\r\n"):
            rest = rest[-8:] + _more(connection)


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(2**16)
    if not data:
        raise Failed("the connection was closed in the middle of an answer")
    return data


async def crowd(server: Running, body: bytes, seconds: float) -> int:
    """How many answers `CLIENTS` clients got."""
    headers = {"authorization": f"Bearer {server.key}", "content-type": "application/json"}
    url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as http:
        until = time.perf_counter() + seconds

        async def client() -> int:
            count = 0
            while time.perf_counter() < until:
                async with http.post(url, data=body) as answer:
                    await answer.read()
                    if answer.status != 200:
                        raise Failed(await answer.text())
                count += 1
            return count

        return sum(await asyncio.gather(*(client() for _ in range(CLIENTS))))
