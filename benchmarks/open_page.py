"""What an open endpoint page costs the server: its CPU seconds under load, with the page closed and open.

    python benchmarks/open_page.py [--seconds 60] [--viewers 1] [--data-dir DIR]

Starts a server with one endpoint and three adapters, keeps eight streaming requests in flight, and reads the CPU time
of the server process (not of the engine) over the same span without and with viewers. A viewer does what the page's
scripts do: it holds the stream of server-sent events open and asks for the charts every ten seconds. The spans
alternate, so that a slow drift of the machine falls on both.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.servers import KEY, RunningServer, create_endpoint, upload, wait_state

ADAPTERS = ("pirate", "json", "shout")
IN_FLIGHT = 8
CHARTS_EVERY_S = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--viewers", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = RunningServer(Path(folder) / "data").start()
        try:
            print(json.dumps(measure(server, arguments), indent=2))
        finally:
            server.stop()


def measure(server: RunningServer, arguments: argparse.Namespace) -> dict:
    endpoint = prepare(server)
    stop = threading.Event()
    served = [0] * IN_FLIGHT
    users = [threading.Thread(target=use, args=(server, n, stop, served)) for n in range(IN_FLIGHT)]
    for user in users:
        user.start()
    time.sleep(20)  # two writes of the history: the charts have something to show
    closed, opened, requests = [], [], []
    for _ in range(arguments.rounds):
        before = sum(served)
        closed.append(cpu_over(server, arguments.seconds))
        with Viewers(server, endpoint["id"], arguments.viewers) as viewers:
            opened.append(cpu_over(server, arguments.seconds))
        requests.append((sum(served) - before) / (2 * arguments.seconds))
    stop.set()
    for user in users:
        user.join()
    without, with_page = statistics.mean(closed), statistics.mean(opened)
    return {
        "seconds": arguments.seconds,
        "viewers": arguments.viewers,
        "requests_per_s": round(statistics.mean(requests), 2),
        "cpu_percent_of_a_core_closed": round(without, 2),
        "cpu_percent_of_a_core_open": round(with_page, 2),
        "cost_percent_of_a_core": round(with_page - without, 2),
        "events": viewers.events,
        "bytes": viewers.bytes,
    }


def prepare(server: RunningServer) -> dict:
    with server.client() as http:
        endpoint = wait_state(http, create_endpoint(http)["id"], "STARTED")
        for name in ADAPTERS:
            upload(http, name)
            body = {"model_id": f"{endpoint['name']}:tester/{name}"}
            http.post(f"/v1/endpoints/{endpoint['id']}/adapters", json=body).raise_for_status()
        return endpoint


def use(server: RunningServer, number: int, stop: threading.Event, served: list[int]) -> None:
    body = {"model": f"tester/{ADAPTERS[number % 3]}", "messages": [{"role": "user", "content": "Tell me about rain."}]}
    body |= {"max_tokens": 64, "stream": True}
    with server.client() as http:
        while not stop.is_set():
            with http.stream("POST", "/v1/chat/completions", json=body) as response:
                for _ in response.iter_raw():
                    pass
            served[number] += 1


def cpu_over(server: RunningServer, seconds: float) -> float:
    """Percent of one core that the server process used."""
    process = psutil.Process(server.process.pid)
    before, began = process.cpu_times(), time.perf_counter()
    time.sleep(seconds)
    after, took = process.cpu_times(), time.perf_counter() - began
    return 100 * (after.user + after.system - before.user - before.system) / took


class Viewers:
    """Browsers with the page open, as far as the server can tell."""

    def __init__(self, server: RunningServer, endpoint_id: str, count: int) -> None:
        self._url, self._path = server.url, f"/ui/endpoints/{endpoint_id}"
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=look) for look in (self._follow, self._chart) for _ in range(count)]
        self.events = self.bytes = 0

    def __enter__(self) -> "Viewers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert self.events, "nobody saw anything"

    @contextmanager
    def _browser(self) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=self._url, timeout=30) as browser:
            assert browser.post("/ui/sign-in", data={"key": KEY}).status_code == 303
            yield browser

    def _follow(self) -> None:
        with self._browser() as browser, browser.stream("GET", f"{self._path}/live") as response:
            assert response.status_code == 200
            for chunk in response.iter_raw():
                self.events += chunk.count(b"event: ")
                self.bytes += len(chunk)
                if self._stop.is_set():
                    return

    def _chart(self) -> None:
        with self._browser() as browser:
            while not self._stop.is_set():
                assert browser.get(f"{self._path}/series?span=hour").status_code == 200
                self._stop.wait(CHARTS_EVERY_S)


if __name__ == "__main__":
    main()
