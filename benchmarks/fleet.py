"""A fleet under load: replicas lost, added, removed and replaced, and load that doubles and halves; with a plot.

    loradock serve --port 8555 --scale-target 4 --scale-up-after 5 --scale-down-after 20
    python benchmarks/fleet.py --url http://127.0.0.1:8555 --key KEY --adapters examples/adapters --plot fleet.svg

Runs on the machine of the server: it kills one of its replicas. Counts what failed, except the streams that the killed
replica was in the middle of, which have to end with an error event and are counted by themselves.
"""

import argparse
import asyncio
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil

BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"


@dataclass
class Log:
    """`samples`: (when, seconds to the first token) of every answer."""

    begun: float = field(default_factory=time.perf_counter)
    samples: list[tuple[float, float]] = field(default_factory=list)
    fleet: list[tuple[float, int, int]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    cut: int = 0

    @property
    def now(self) -> float:
        return time.perf_counter() - self.begun


class Load:
    """As many clients as asked for, each with one streamed request after the other."""

    def __init__(self, http: aiohttp.ClientSession, models: list[str], log: Log) -> None:
        self._http, self._models, self._log = http, models, log
        self._tasks: list[asyncio.Task[None]] = []
        self.clients = 0

    def set(self, clients: int) -> None:
        self.clients = clients
        for number in range(len(self._tasks), clients):
            self._tasks.append(asyncio.create_task(self._run(number)))

    async def end(self) -> None:
        self.clients = 0
        await asyncio.gather(*self._tasks)

    async def _run(self, number: int) -> None:
        while True:
            if number < self.clients:
                await self._ask(self._models[number % len(self._models)])
            elif self.clients == 0:
                return
            else:
                await asyncio.sleep(0.1)

    async def _ask(self, model: str) -> None:
        body = {"model": model, "prompt": "Tell me about rain.", "max_tokens": 24, "ignore_eos": True, "stream": True}
        begun, first, done = time.perf_counter(), None, False
        async with self._http.post("/v1/completions", json=body) as answer:
            if answer.status != 200:
                self._log.failed.append(f"{answer.status} {await answer.text()}")
                return
            async for line in answer.content:
                first = first or (time.perf_counter() - begun if line.startswith(b"data: {") else None)
                done = done or line.startswith(b"data: [DONE]")
                if b'"replica_lost"' in line:
                    self._log.cut += 1
                    return
        if not done or first is None:
            self._log.failed.append("a stream ended without [DONE]")
            return
        self._log.samples.append((self._log.now, first))


class Fleet:
    def __init__(self, http: aiohttp.ClientSession, log: Log, load: Load) -> None:
        self.http, self.log, self.load = http, log, load
        self.id = ""

    async def call(self, method: str, path: str, **kwargs: object) -> dict:
        async with self.http.request(method, path, **kwargs) as answer:
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path}: {answer.status} {await answer.text()}")
            return await answer.json()

    async def create(self, adapters: list[Path]) -> None:
        body = {"model": BASE, "hardware": "", "autoscaling": {"min_replicas": 2, "max_replicas": 2}}
        made = await self.call("POST", "/v1/endpoints", json=body)
        self.id = made["id"]
        await self.until(2, 0)
        for folder in adapters:
            form = aiohttp.FormData()
            form.add_field("model_name", f"fleet-{folder.name}")
            for file in folder.iterdir():
                form.add_field("files", file.read_bytes(), filename=file.name)
            job = (await self.call("POST", "/v1/models/upload", data=form))["data"]["job_id"]
            await self.uploaded(job)
            body = {"model_id": f"{made['name']}:{made['owner']}/fleet-{folder.name}"}
            await self.call("POST", f"/v1/endpoints/{self.id}/adapters", json=body)

    async def uploaded(self, job: str) -> None:
        while True:
            status = (await self.call("GET", f"/v1/jobs/{job}"))["status"]
            if status == "Complete":
                return
            if status == "Failed":
                raise RuntimeError(f"upload {job} failed")
            await asyncio.sleep(0.1)

    async def replicas(self) -> list[dict]:
        return (await self.call("GET", f"/v1/endpoints/{self.id}/replicas"))["data"]

    async def until(self, count: int, adapters: int, gone: frozenset[str] = frozenset()) -> float:
        """Seconds until just `count` replicas run, all ready and holding all adapters, none of them in `gone`."""
        begun = time.perf_counter()
        while True:
            found = await self.replicas()
            ready = [r for r in found if r["state"] == "READY" and sum(r["adapters"].values()) == adapters]
            if len(ready) == len(found) == count and not gone & {r["id"] for r in found}:
                return time.perf_counter() - begun
            await asyncio.sleep(0.2)

    async def change(self, **body: object) -> None:
        await self.call("PATCH", f"/v1/endpoints/{self.id}", json=body)

    async def watch(self) -> None:
        while True:
            ready = sum(r["state"] == "READY" for r in await self.replicas())
            self.log.fleet.append((self.log.now, self.load.clients, ready))
            await asyncio.sleep(0.5)


def replica_process(replica: str) -> psutil.Process:
    for process in psutil.process_iter(["cmdline"]):
        if any(f"/{replica}/announce.json" in word for word in process.info["cmdline"] or ()):
            return process
    raise RuntimeError(f"no process of {replica} on this machine")


async def operations(fleet: Fleet, adapters: int) -> None:
    """Every operation under steady load."""
    fleet.load.set(6)
    await asyncio.sleep(5)
    victim = (await fleet.replicas())[0]["id"]
    replica_process(victim).kill()
    seconds = await fleet.until(2, adapters, frozenset({victim}))
    report(fleet.log, f"kill -9 of one of two replicas: two with all adapters again after {seconds:.1f} s")
    for count in (3, 1, 2):
        await fleet.change(autoscaling={"min_replicas": count, "max_replicas": count})
        report(fleet.log, f"to {count} replicas: {await fleet.until(count, adapters):.1f} s")
    old = frozenset(r["id"] for r in await fleet.replicas())
    await fleet.change(max_lora_rank=128)
    seconds = await fleet.until(2, adapters, old)
    report(fleet.log, f"new settings, both replicas replaced: {seconds:.1f} s")


async def scaling(fleet: Fleet, seconds: float) -> None:
    """Load that doubles twice and halves twice, between one and three replicas."""
    await fleet.change(autoscaling={"min_replicas": 1, "max_replicas": 3})
    fleet.log.begun = time.perf_counter()
    fleet.log.samples.clear()
    watcher = asyncio.create_task(fleet.watch())
    for clients in (3, 6, 12, 6, 3):
        fleet.load.set(clients)
        await asyncio.sleep(seconds)
        report(fleet.log, f"{clients} clients for {seconds:.0f} s: {fleet.log.fleet[-1][2]} replicas")
    watcher.cancel()


def report(log: Log, words: str) -> None:
    print(f"{words}; {len(log.failed)} failed, {log.cut} streams cut off with an error event", flush=True)


def draw(log: Log, file: Path) -> None:
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(2, sharex=True, figsize=(8, 5))
    times = [at for at, _, _ in log.fleet]
    above.step(times, [clients for _, clients, _ in log.fleet], where="post", label="clients")
    above.step(times, [4 * ready for _, _, ready in log.fleet], where="post", label="4 for each replica (the target)")
    above.set_ylabel("requests in flight")
    above.legend()
    below.plot([at for at, _ in log.samples], [1000 * first for _, first in log.samples], ".", markersize=3)
    below.set_ylabel("first token (ms)")
    below.set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(file)


async def main(arguments: argparse.Namespace) -> None:
    log, headers = Log(), {"authorization": f"Bearer {arguments.key}"}
    folders = sorted(folder for folder in arguments.adapters.iterdir() if folder.is_dir())
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(arguments.url, headers=headers, connector=connector, timeout=timeout) as http:
        who = await (await http.get("/v1/whoami")).json()
        load = Load(http, [f"{who['project_slug']}/fleet-{folder.name}" for folder in folders], log)
        fleet = Fleet(http, log, load)
        await fleet.create(folders)
        await operations(fleet, len(folders))
        await scaling(fleet, arguments.seconds)
        await load.end()
    draw(log, arguments.plot)
    print(json.dumps({"failed": log.failed[:5], "cut": log.cut, "answers while scaling": len(log.samples)}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--adapters", type=Path, required=True)
    parser.add_argument("--plot", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=40)
    asyncio.run(main(parser.parse_args()))
