"""A replica without a model: speaks the protocol over a real socket, and fails on demand.

Answers say which adapter, from which folder, gave them. `<model>/faults.json` is read anew at every use:
    crash: last words of a start that fails        load_delay: seconds before it is healthy
    loading: what it says that it loads until then
    refuse: {adapter: reason}                      nan: [adapters whose probe is not finite]
    unwritable: [adapters whose probe is not finite, which is told as vLLM tells it]
    adapter_delay: seconds an adapter load takes   token_delay: seconds per token
    error_in_stream: true: the stream ends with an error event
    die: "load" | "probe" | "before" | "stream" | "event": be killed at once (no goodbye), once
    break: the same moments: end by itself, every time
    stuck: true: from its next request on it answers health checks and computes nothing, as they then tell
`<model>/journal.jsonl` tells of every generation: begun, done, gone (the client left).
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from aiohttp import web

PROMPT_TOKENS = 7


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--served-model-name", nargs="+", required=True)
    parser.add_argument("--announce", type=Path)
    parser.add_argument("--max-loras", type=int, default=64)
    parser.add_argument("--max-cpu-loras", type=int, default=256)
    return parser.parse_known_args()[0]


class Stub:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.adapters: dict[str, str] = {}
        self.used: dict[str, None] = {}
        self.ready = False
        self.steps = self.work = 0
        self.stuck = False
        secret = os.environ.get("LORADOCK_ENGINE_SECRET")
        self.authorization = secret and f"Bearer {secret}"

    @property
    def faults(self) -> dict:
        file = self.options.model / "faults.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def die_if(self, moment: str) -> None:
        faults = self.faults
        if faults.get("die") == moment:
            del faults["die"]
            (self.options.model / "faults.json").write_text(json.dumps(faults))
            os.kill(os.getpid(), signal.SIGKILL)
        if faults.get("break") == moment:
            os._exit(9)

    def journal(self, event: str, model: str) -> None:
        with (self.options.model / "journal.jsonl").open("a") as file:
            file.write(json.dumps({"event": event, "model": model}) + "\n")

    @web.middleware
    async def guard(self, request, handler):
        if request.path != "/health":
            if self.authorization and request.headers.get("authorization") != self.authorization:
                return error(401, "wrong secret")
            if not self.ready:
                return error(503, "still loading")
        return await handler(request)

    async def health(self, _):
        if not self.ready:
            return web.json_response({"status": "loading", "reason": self.faults.get("loading")}, status=503)
        told = {"steps": self.steps, "work": self.work, "compute_seconds": float(self.steps)}
        return web.json_response({"status": "ok", **told})

    async def models(self, _):
        names = [{"id": name, "root": None, "parent": None} for name in self.options.served_model_name]
        parent = names[0]["id"]
        names += [{"id": n, "root": path, "parent": parent, "tier": self.tier(n)} for n, path in self.adapters.items()]
        return web.json_response({"object": "list", "data": names})

    def use(self, name):
        """As in an engine: the least recently used leave memory for what is used now."""
        if name in self.adapters:
            self.used.pop(name, None)
            self.used[name] = None
        for old in list(self.used)[: -self.options.max_cpu_loras]:
            del self.used[old]

    def tier(self, name):
        return "ram" if name in self.used else "disk"

    async def load(self, request):
        body = await request.json()
        name, path = body["lora_name"], body["lora_path"]
        self.die_if("load")
        await asyncio.sleep(self.faults.get("adapter_delay", 0))
        if reason := self.faults.get("refuse", {}).get(name):
            return error(400, reason)
        if not (Path(path) / "adapter_config.json").exists():
            return error(400, f"no adapter_config.json in {path}")
        if self.adapters.get(name, path) != path:
            return error(400, f"{name} is loaded from {self.adapters[name]}")
        self.adapters[name] = path
        if not body.get("lazy", False):
            self.use(name)
        return web.Response(text="loaded")

    async def unload(self, request):
        name = (await request.json())["lora_name"]
        if name not in self.adapters:
            return error(404, f"no adapter {name}")
        del self.adapters[name]
        self.used.pop(name, None)
        return web.Response(text="unloaded")

    async def generate(self, request):
        body = await request.json()
        model = body["model"]
        if model not in self.adapters and model not in self.options.served_model_name:
            return error(404, f"The model {model!r} is not served here.", "model_not_found")
        self.journal("begun", model)
        self.use(model)
        self.work += 1
        try:
            self.stuck = self.stuck or self.faults.get("stuck", False)
            while self.stuck:
                await asyncio.sleep(0.05)
            response = await self.answer(request, body, model)
        except (asyncio.CancelledError, ConnectionError):
            self.journal("gone", model)
            raise
        finally:
            self.work -= 1
            self.steps += 1
        self.journal("done", model)
        return response

    async def answer(self, request, body, model):
        if body.get("logprobs"):
            self.die_if("probe")
            if model in self.faults.get("unwritable", ()):
                reason = "Out of range float values are not JSON compliant: nan"
                return web.json_response({"error": {"message": reason, "type": "BadRequestError"}}, status=400)
            value = float("nan") if model in self.faults.get("nan", ()) else -1.5
            return web.json_response({"choices": [{"text": "x", "logprobs": {"token_logprobs": [value]}}]})
        self.die_if("before")
        words = f"{model} from {Path(self.adapters.get(model, 'base')).name}".split()
        words += [f"w{number}" for number in range(body.get("max_tokens", 0))]
        if body.get("stream"):
            return await self.stream(request, words, model, usage_of(words) if asks_usage(body) else None)
        for _ in words:
            await asyncio.sleep(self.faults.get("token_delay", 0))
            self.steps += 1
        text = " ".join(words)
        choice = {"index": 0, "text": text, "message": {"role": "assistant", "content": text}}
        return web.json_response(
            {
                "model": model,
                "choices": [choice],
                "dialect": request.headers.get("x-loradock-dialect"),
                "usage": usage_of(words),
            }
        )

    async def stream(self, request, words, model, usage):
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number, word in enumerate(words):
            await asyncio.sleep(self.faults.get("token_delay", 0))
            self.steps += 1
            if number == 2:
                self.die_if("stream")
            chunk = {"choices": [{"index": 0, "text": word, "delta": {"content": word}}], "model": model}
            event = event_of({**chunk, "usage": None} if usage else chunk)
            if number == 2 and self.faults.get("die") == "event":
                await response.write(event[:20])
                await asyncio.sleep(0.05)
                self.die_if("event")
            await response.write(event)
        if self.faults.get("error_in_stream"):
            await response.write(event_of({"error": {"message": "out of memory"}}))
        elif usage:
            await response.write(event_of({"choices": [], "model": model, "usage": usage}))
        await response.write(b"data: [DONE]\n\n")
        return response


def asks_usage(body: dict) -> bool:
    return (body.get("stream_options") or {}).get("include_usage", False)


def usage_of(words: list[str]) -> dict:
    return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": len(words)}


def event_of(body: dict) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def error(status: int, message: str, code: str | None = None) -> web.Response:
    return web.json_response({"message": message, "error": {"message": message, "code": code}}, status=status)


def announce(file: Path | None, content: dict) -> None:
    if file:
        file.with_suffix(".tmp").write_text(json.dumps(content))
        file.with_suffix(".tmp").rename(file)


async def main() -> None:
    stub = Stub(parse())
    announce(stub.options.announce, {"pid": os.getpid()})
    if words := stub.faults.get("crash"):
        sys.exit(words)
    app = web.Application(middlewares=[stub.guard])
    app.router.add_get("/health", stub.health)
    app.router.add_get("/v1/models", stub.models)
    app.router.add_post("/v1/load_lora_adapter", stub.load)
    app.router.add_post("/v1/unload_lora_adapter", stub.unload)
    app.router.add_post("/v1/completions", stub.generate)
    app.router.add_post("/v1/chat/completions", stub.generate)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    announce(stub.options.announce, {"pid": os.getpid(), "port": runner.addresses[0][1]})
    await asyncio.sleep(stub.faults.get("load_delay", 0))
    stub.ready = True
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
