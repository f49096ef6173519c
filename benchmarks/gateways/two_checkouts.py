"""CPU time of the gateways of two checkouts, both up at once and in turns: hosts drift more than commits differ.

python -m benchmarks.gateways.two_checkouts FOLDER FOLDER [--rounds 40]

Each folder is a checkout with its `.venv`. Swap the folders to see what the order does.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateways import measuring, peers

_TURN_S = 0.8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs=2, type=Path)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="two-checkouts-") as scratch:
        servers = [_Server(folder.resolve(), Path(scratch) / str(i)) for i, folder in enumerate(options.folders)]
        try:
            _compare(servers, options.rounds)
        finally:
            for server in servers:
                server.end()


class _Server:
    def __init__(self, folder: Path, cache: Path) -> None:
        cache.mkdir()
        python = folder / ".venv" / "bin" / "python"
        env = {**os.environ, "PYTHONPATH": f"{folder / 'src'}:{folder}"}
        command = [python, __file__, cache]
        self._process = subprocess.Popen(
            command, cwd=folder, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.running = _Running(**json.loads(next(line for line in self._process.stdout if line.startswith("{"))))

    def cpu_ms(self) -> float:
        """Return the CPU time of all threads of the gateway's process, finer than the clock ticks that psutil tells."""
        tasks = Path(f"/proc/{self.running.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e6

    def end(self) -> None:
        self._process.communicate("\n")


@dataclass
class _Running:
    pid: int
    port: int
    model: str
    key: str


def _compare(servers: list[_Server], rounds: int) -> None:
    bodies = {"whole answer": {}, "paced stream": {"stream": True, "top_p": 0.5}}
    took: dict[str, list[list[float]]] = {name: [[], []] for name in bodies}
    for turn in range(-1, rounds):  # the first warms up
        for name, fields in bodies.items():
            for side in (0, 1) if turn % 2 else (1, 0):
                server = servers[side]
                body = measuring.body_for(server.running, **fields)
                before = server.cpu_ms()
                count = asyncio.run(measuring.crowd(server.running, body, _TURN_S))
                if turn >= 0:
                    took[name][side].append((server.cpu_ms() - before) / count)
    for name, (first, second) in took.items():
        ratios = sorted(later / earlier for earlier, later in zip(first, second, strict=True))
        quarter = len(ratios) // 4
        print(
            f"{name}: {statistics.fmean(first):.4f} -> {statistics.fmean(second):.4f} ms, "
            f"ratio of means {sum(second) / sum(first):.3f}, of turns {statistics.median(ratios):.3f} "
            f"(half of them {ratios[quarter]:.3f} to {ratios[-quarter - 1]:.3f})"
        )


async def _serve(cache: Path) -> None:
    """In the other checkout, with its own code."""
    peers.CACHE = cache
    target = peers.TARGETS[1]
    target.prepare()
    server = await target.start(0)
    print(json.dumps({"pid": server.tree.pid, "port": server.port, "model": server.model, "key": server.key}))
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.to_thread(server.tree.end)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        asyncio.run(_serve(Path(sys.argv[1])))
    else:
        main()
