"""A small server over openvino-genai's continuous batching; run by the interpreter of the environment that has it.

python openvino_server.py FOLDER PORT SEQUENCES TOKENS [NAME=ADAPTER …]

Requests of the base model are batched as they come. An adapter is a state of the whole pipeline: its requests are
answered one after the other, when nothing else is under way.
"""

import asyncio
import json
import queue
import sys
import threading
from dataclasses import dataclass, field

import openvino_genai as genai
from aiohttp import web

_BLOCK = 32
"""Tokens of a block of keys and values on a CPU."""
_SCALE = 2.0
"""lora_alpha / rank of the benchmarks' adapters: openvino-genai reads no adapter_config.json."""


@dataclass
class Job:
    adapter: str
    prompt: str
    tokens: int
    events: asyncio.Queue = field(default_factory=asyncio.Queue)
    prompt_tokens: int = 0
    told: int = 0


class Worker(threading.Thread):
    def __init__(self, folder: str, sequences: int, tokens: int, adapters: dict[str, str], loop) -> None:
        super().__init__(daemon=True)
        scheduler = genai.SchedulerConfig()
        scheduler.max_num_seqs = sequences
        scheduler.num_kv_blocks = tokens // _BLOCK + 2 * sequences
        scheduler.enable_prefix_caching = True
        self._adapters = {name: genai.Adapter(path) for name, path in adapters.items()}
        known = {"adapters": genai.AdapterConfig(list(self._adapters.values()))} if adapters else {}
        self._pipeline = genai.ContinuousBatchingPipeline(folder, scheduler, "CPU", known)
        self._tokenizer = self._pipeline.get_tokenizer()
        self._loop = loop
        self._number = 0
        self._running: dict[int, tuple[Job, genai.GenerationHandle]] = {}
        self.jobs: queue.Queue[Job] = queue.Queue()

    def run(self) -> None:
        waiting: Job | None = None
        while True:
            while waiting is None and not (self._running and self.jobs.empty()):
                job = self.jobs.get()
                if job.adapter == "base":
                    self._add(job)
                else:
                    waiting = job
            if self._running:
                self._step()
            elif waiting is not None:
                self._alone(waiting)
                waiting = None

    def _config(self, job: Job) -> genai.GenerationConfig:
        config = genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = job.tokens, True, False
        config.apply_chat_template = False
        return config

    def _add(self, job: Job) -> None:
        ids = self._tokenizer.encode(job.prompt).input_ids
        job.prompt_tokens = ids.shape[1]
        self._number += 1
        handle = self._pipeline.add_request(self._number, ids, self._config(job))
        self._running[self._number] = job, handle

    def _step(self) -> None:
        self._pipeline.step()
        for number, (job, handle) in list(self._running.items()):
            while handle.can_read():
                for output in handle.read().values():
                    self._tell(job, output.generated_ids)
            if handle.get_status() != genai.GenerationStatus.RUNNING:
                del self._running[number]

    def _alone(self, job: Job) -> None:
        job.prompt_tokens = self._tokenizer.encode(job.prompt).input_ids.shape[1]
        config = self._config(job)
        config.adapters = genai.AdapterConfig([(self._adapters[job.adapter], _SCALE)])
        self._pipeline.generate([job.prompt], [config], Stream(lambda ids: self._tell(job, ids)))

    def _tell(self, job: Job, ids: list[int]) -> None:
        for token in ids:
            self._loop.call_soon_threadsafe(job.events.put_nowait, self._tokenizer.decode([token]))


class Stream(genai.StreamerBase):
    def __init__(self, tell) -> None:
        super().__init__()
        self._tell = tell

    def write(self, token) -> genai.StreamingStatus:
        self._tell([token] if isinstance(token, int) else list(token))
        return genai.StreamingStatus.RUNNING

    def end(self) -> None:
        pass


async def complete(request: web.Request) -> web.StreamResponse:
    """Streaming completions are all that is measured."""
    body, worker = await request.json(), request.app["worker"]
    job = Job(body["model"], body["prompt"], body["max_tokens"])
    worker.jobs.put(job)
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(job.tokens):
        event = {"choices": [{"index": 0, "text": await job.events.get()}]}
        await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
    usage = {"prompt_tokens": job.prompt_tokens, "completion_tokens": job.tokens}
    await response.write(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\ndata: [DONE]\n\n")
    return response


async def health(_: web.Request) -> web.Response:
    return web.Response()


async def main(folder: str, port: str, sequences: str, tokens: str, *adapters: str) -> None:
    app = web.Application(client_max_size=2**26)
    named = dict(adapter.split("=", 1) for adapter in adapters)
    app["worker"] = Worker(folder, int(sequences), int(tokens), named, asyncio.get_running_loop())
    app["worker"].start()
    app.add_routes([web.post("/v1/completions", complete), web.get("/health", health)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(port)).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
