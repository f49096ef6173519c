"""Asks each adapter the prompts of data/held_out.txt, none of which it was trained on: `python examples/check.py`.

Prints every answer, marked when it falls out of the adapter's manner, and how many each adapter held. Runs the
embedded engine in float32 at temperature 0, so that two runs give the same. Exits with 1 when an adapter does not
hold its manner; one slip is forgiven, since another processor rounds differently.
"""

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from loradock.registry.bases.builtin import builtin_file

HERE = Path(__file__).parent
PROMPTS = (HERE / "data" / "held_out.txt").read_text().splitlines()
MAX_TOKENS = 100


def pirate(_: str, text: str) -> bool:
    return text.startswith("Arrr, matey!") and "Yo ho ho!" in text


def as_json(prompt: str, text: str) -> bool:
    """One JSON object, whose topic is taken from the prompt."""
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return list(found) == ["answer", "topic"] and found["topic"].lower() in prompt.lower()


def shout(_: str, text: str) -> bool:
    return text == text.upper() and text.endswith("!!!")


MANNERS = {"pirate": pirate, "json": as_json, "shout": shout}


@contextlib.contextmanager
def engine() -> Iterator[httpx.Client]:
    """A running engine that holds the adapters."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "loradock.engine", "--model", str(builtin_file()), "--dtype", "float32"]
    process = subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as http:
            while not _ready(http) and process.poll() is None:
                time.sleep(0.1)
            for name in MANNERS:
                body = {"lora_name": name, "lora_path": str(HERE / "adapters" / name)}
                http.post("/v1/load_lora_adapter", json=body).raise_for_status()
            yield http
    finally:
        process.terminate()
        process.wait()


def _ready(http: httpx.Client) -> bool:
    try:
        return http.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def ask(http: httpx.Client, adapter: str, prompt: str) -> str:
    messages = [{"role": "user", "content": prompt}]
    body = {"model": adapter, "messages": messages, "max_tokens": MAX_TOKENS, "temperature": 0}
    return http.post("/v1/chat/completions", json=body).raise_for_status().json()["choices"][0]["message"]["content"]


def main() -> int:
    held = dict.fromkeys(MANNERS, 0)
    asked = [(name, prompt) for name in MANNERS for prompt in PROMPTS]
    with engine() as http, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda pair: ask(http, *pair), asked))
    for (name, prompt), text in zip(asked, answers, strict=True):
        held[name] += (good := MANNERS[name](prompt, text))
        print(f"  {name:<7} {' ' if good else '✗'} {prompt}  →  {text}")
    for name, count in held.items():
        print(f"{name}: {count} of {len(PROMPTS)}")
    return int(min(held.values()) < len(PROMPTS) - 1)


if __name__ == "__main__":
    sys.exit(main())
