"""A small batch server over transformers + PEFT; run by the interpreter of the environment that has them.

python peft_batches.py FOLDER PORT
"""

import asyncio
import json
import queue
import sys
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from aiohttp import web
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.generation.streamers import BaseStreamer

BATCH, GATHER = 64, 0.01
"""Sequences at a time, and for how long without a newcomer a batch is waited for, in seconds."""


@dataclass
class Job:
    adapter: str
    prompt: list[int]
    tokens: int
    events: asyncio.Queue = field(default_factory=asyncio.Queue)


class Steps(BaseStreamer):
    """Passes on each step's tokens; the first that it gets are the prompts."""

    def __init__(self, deliver) -> None:
        self._deliver, self._prompts_left = deliver, True

    def put(self, value) -> None:
        if self._prompts_left:
            self._prompts_left = False
        else:
            self._deliver(value.tolist())

    def end(self) -> None:
        pass


class Worker(threading.Thread):
    def __init__(self, folder: str, dtype: torch.dtype, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(daemon=True)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        self.model.generation_config.eos_token_id = None
        self.model.generation_config.pad_token_id = 0
        self.jobs: queue.Queue[Job] = queue.Queue()
        self._loop = loop
        self._lock = threading.Lock()

    def load(self, name: str, path: str) -> None:
        with self._lock:
            if isinstance(self.model, PeftModel):
                self.model.load_adapter(path, name, autocast_adapter_dtype=False)
            else:
                self.model = PeftModel.from_pretrained(self.model, path, name, autocast_adapter_dtype=False).eval()

    def run(self) -> None:
        with torch.inference_mode():
            while True:
                batch = self._gather()
                with self._lock:
                    self._generate(batch)

    def _gather(self) -> list[Job]:
        batch = [self.jobs.get()]
        last = time.monotonic()
        while len(batch) < BATCH and time.monotonic() - last < GATHER:
            try:
                batch.append(self.jobs.get(timeout=GATHER))
                last = time.monotonic()
            except queue.Empty:
                break
        return batch

    def _generate(self, batch: list[Job]) -> None:
        width = max(len(job.prompt) for job in batch)
        ids = torch.tensor([[0] * (width - len(job.prompt)) + job.prompt for job in batch])
        mask = torch.tensor([[0] * (width - len(job.prompt)) + [1] * len(job.prompt) for job in batch])
        steps = max(job.tokens for job in batch)
        naming, names = self._who(batch)
        with naming:
            self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=False,
                max_new_tokens=steps,
                streamer=Steps(lambda tokens: self._deliver(batch, tokens)),
                **names,
            )

    def _who(self, batch: list[Job]):
        if not isinstance(self.model, PeftModel):
            return nullcontext(), {}
        wanted = {job.adapter for job in batch}
        if wanted == {"base"}:
            return self.model.disable_adapter(), {}
        if len(wanted) == 1:
            self.model.set_adapter(batch[0].adapter, inference_mode=True)
            return nullcontext(), {}
        names = ["__base__" if job.adapter == "base" else job.adapter for job in batch]
        return nullcontext(), {"adapter_names": names}

    def _deliver(self, batch: list[Job], tokens: list[int]) -> None:
        texts = self.tokenizer.batch_decode([[token] for token in tokens])
        self._loop.call_soon_threadsafe(hand_out, batch, texts)


def hand_out(batch: list[Job], texts: list[str]) -> None:
    for job, text in zip(batch, texts, strict=True):
        job.events.put_nowait(text)


async def complete(request: web.Request) -> web.StreamResponse:
    """Streaming completions are all that is measured."""
    body, worker = await request.json(), request.app["worker"]
    job = Job(body["model"], worker.tokenizer(body["prompt"])["input_ids"], body["max_tokens"])
    worker.jobs.put(job)
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(job.tokens):
        event = {"choices": [{"index": 0, "text": await job.events.get()}]}
        await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
    usage = {"prompt_tokens": len(job.prompt), "completion_tokens": job.tokens}
    await response.write(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\ndata: [DONE]\n\n")
    return response


async def load_adapter(request: web.Request) -> web.Response:
    body = await request.json()
    await asyncio.to_thread(request.app["worker"].load, body["lora_name"], body["lora_path"])
    return web.Response()


async def health(_: web.Request) -> web.Response:
    return web.Response()


async def main(folder: str, port: str, dtype: str) -> None:
    app = web.Application()
    app["worker"] = Worker(folder, getattr(torch, dtype), asyncio.get_running_loop())
    app["worker"].start()
    app.add_routes([web.post("/v1/completions", complete), web.post("/v1/load_lora_adapter", load_adapter)])
    app.add_routes([web.get("/health", health)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(port)).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
