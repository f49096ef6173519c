"""What the gateway adds to a request: a replica that answers at once, asked directly and through the gateway.

    python benchmarks/gateway_overhead.py [--requests 3000]

One process each for replica, gateway and client; one request at a time, so the difference of the medians is the cost.
"""

import argparse
import asyncio
import json
import multiprocessing
import socket
import statistics
import tempfile
import time
from pathlib import Path

import aiohttp
import uvicorn

from loradock.gateway.keys import KeyCache
from loradock.gateway.proxy import Gateway
from loradock.gateway.routes import EndpointFacts, Route, RouteTable
from loradock.gateway.upstream import Upstream
from loradock.store.accounts import create_key
from loradock.store.database import Database, migrate
from loradock.types.enums import EndpointState

KEY = "ld-benchmark"
PLAIN = json.dumps({"choices": [{"index": 0, "text": "Hello"}]}).encode()
EVENT = b"data: " + PLAIN + b"\n\n"
CHUNKS = 32


async def replica(scope, receive, send):
    body = (await receive())["body"]
    streaming = b'"stream": true' in body
    kind = b"text/event-stream" if streaming else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    for _ in range(CHUNKS if streaming else 0):
        await send({"type": "http.response.body", "body": EVENT, "more_body": True})
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n" if streaming else PLAIN})


def serve(app, port_to, *arguments):
    import uvloop  # as `loradock serve` runs

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app(*arguments), lifespan="off", log_level="warning"))
    port_to.put(listener.getsockname()[1])
    uvloop.run(server.serve(sockets=[listener]))


def make_replica():
    return replica


def make_gateway(folder: str, replica_port: int):
    database = Database(f"sqlite:///{folder}/db")
    migrate(database.engine)
    with database.session() as session:
        account = create_key(session, "bench", "bench", KEY)[0].account.id
    facts = EndpointFacts("endpoint-1", "bench/base", account, "bench", False, EndpointState.STARTED)
    upstreams = (Upstream("rep", f"http://127.0.0.1:{replica_port}", "secret"),)
    routes = RouteTable()
    routes.publish("dep", Route(facts, facts.name, upstreams), [Route(facts, "bench/adapter", upstreams)])
    return Gateway(routes, KeyCache(database))


def start(app, *arguments):
    ports = multiprocessing.Queue()
    process = multiprocessing.Process(target=serve, args=(app, ports, *arguments), daemon=True)
    process.start()
    return ports.get(timeout=30)


async def measure(port: int, requests: int, *, stream: bool) -> list[float]:
    """Milliseconds to the end of each answer, the first tenth left out."""
    body = json.dumps({"model": "bench/adapter", "prompt": "x" * 500, "stream": stream}).encode()
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    took = []
    async with aiohttp.ClientSession(headers=headers) as session:
        for _ in range(requests):
            began = time.perf_counter()
            async with session.post(f"http://127.0.0.1:{port}/v1/completions", data=body) as response:
                await response.read()
            assert response.status == 200
            took.append((time.perf_counter() - began) * 1000)
    return sorted(took[requests // 10 :])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000)
    requests = parser.parse_args().requests
    with tempfile.TemporaryDirectory() as folder:
        replica_port = start(make_replica)
        gateway_port = start(make_gateway, str(Path(folder)), replica_port)
        for stream in (False, True):
            direct, through = (asyncio.run(measure(p, requests, stream=stream)) for p in (replica_port, gateway_port))
            added = statistics.median(through) - statistics.median(direct)
            print(f"stream of {CHUNKS} chunks" if stream else "plain")
            print(f"  direct  p50 {statistics.median(direct):.3f} ms")
            print(f"  through p50 {statistics.median(through):.3f} ms, p99 {through[int(len(through) * 0.99)]:.3f} ms")
            print(f"  added   p50 {added:.3f} ms")


if __name__ == "__main__":
    main()
