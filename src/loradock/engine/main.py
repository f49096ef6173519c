"""`loradock engine`: one base model, its adapters, the replica protocol."""

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import uvicorn

from loradock.engine.server import EngineServer
from loradock.types.errors import BadRequest, LoradockError
from loradock.types.protocol import ENGINE_SECRET_ENV

log = logging.getLogger("loradock.engine")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="loradock engine", description=__doc__)
    p.add_argument("--model", type=Path, required=True, help="Hugging Face folder or .gguf file")
    p.add_argument("--served-model-name", nargs="+", default=[], help="names that mean the base model")
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--port", type=int, default=0, help="0: any free port (see --announce)")
    p.add_argument("--announce", type=Path, help="file that gets {pid, port} as JSON")
    p.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    p.add_argument("--device", default="cpu")
    p.add_argument("--max-loras", type=int, default=64, help="adapters loaded at a time")
    p.add_argument("--max-lora-rank", type=int, default=64)
    p.add_argument("--disable-lora", action="store_true")
    p.add_argument("--max-model-len", type=int, help="context in tokens; default: the model's own, at most 8192")
    p.add_argument("--max-num-seqs", type=int, default=64, help="sequences per step")
    p.add_argument("--kv-cache-gib", type=float, default=1.0)
    p.add_argument("--threads", type=int, default=0, help="compute threads; 0: all cores")
    return p


def main(arguments: list[str] | None = None) -> None:
    """Runs until SIGTERM. On a fatal error the last line logged is the reason, and the exit code 1."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    _announce(options.announce, {"pid": os.getpid()})
    try:
        asyncio.run(_serve(options))
    except (LoradockError, OSError) as error:
        log.error("cannot serve %s: %s", options.model, error)
        sys.exit(1)
    except MemoryError:
        log.error("cannot serve %s: it does not fit this machine's memory", options.model)
        sys.exit(1)


async def _serve(options: argparse.Namespace) -> None:
    listener = socket.create_server((options.host, options.port))
    server = EngineServer(os.environ.get(ENGINE_SECRET_ENV))
    config = uvicorn.Config(server.app, log_level="warning", access_log=False, timeout_graceful_shutdown=3)
    http = uvicorn.Server(config)
    http.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    serving = asyncio.create_task(http.serve(sockets=[listener]))
    _announce(options.announce, {"pid": os.getpid(), "port": listener.getsockname()[1]})
    try:
        await _run(options, server, stop)
    finally:
        http.should_exit = True
        await serving


async def _run(options: argparse.Namespace, server: EngineServer, stop: asyncio.Event) -> None:
    # Imported here, so that the port answers /health while torch and the weights load.
    from loradock.engine.assembly import build

    if not options.model.exists():
        raise BadRequest(f"there is no model at {options.model}")
    service, loop = await asyncio.to_thread(build, options)
    loop.start(asyncio.get_running_loop())
    server.ready(service, loop)
    log.info("ready: %s", ", ".join(service.adapters.base_names))
    await stop.wait()
    loop.stop()


def _announce(file: Path | None, content: dict[str, int]) -> None:
    if file is not None:
        draft = file.with_suffix(".tmp")
        draft.write_text(json.dumps(content))
        draft.replace(file)
