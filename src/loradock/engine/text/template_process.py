"""Chat templates that came with an adapter or a request run in a process of their own.

A template is a program. Jinja's sandbox keeps it from reaching anything, but not from counting for ever or from making
a text that fills the memory: the process may take so much of either and no more, and is replaced when it took it.
"""

import contextlib
import json
import os
import select
import struct
import subprocess
import sys
import threading
import time
from typing import Any

from loradock.types.errors import BadRequest

SECONDS = 2.0
"""The time for one text. Templates of real models take a few milliseconds."""
HEAD = struct.Struct("<Q")
MAX_BYTES = 64 * 2**20
"""The most bytes of a question or an answer."""


class TemplateProcess:
    """Started by the first text, ended with the engine. Threads take turns."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def render(self, question: dict[str, Any]) -> str:
        """The text for `template_worker.answer`'s question; up to two seconds. Raises BadRequest with the reason."""
        with self._turn:
            process = self._running()
            try:
                answer = self._ask(process, json.dumps(question).encode())
            except TimeoutError as error:
                self._end(process)
                raise BadRequest(
                    f"the chat template ran for more than {self._seconds:g} s: mend it, or leave it out",
                    param="chat_template",
                ) from error
            except OSError as error:
                self._end(process)
                raise BadRequest(
                    "the chat template needs too much memory: mend it, or leave it out", param="chat_template"
                ) from error
        if "text" in answer:
            return str(answer["text"])
        raise BadRequest(answer["error"], param=answer["param"])

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-m", "loradock.engine.text.template_worker"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._wait_until_ready(self._process)
        return self._process

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        # Its imports do not count as a template's time.
        deadline = time.monotonic() + 60
        if _read(process, HEAD.size, deadline) != HEAD.pack(0):
            raise OSError("it did not start")

    def _ask(self, process: subprocess.Popen[bytes], question: bytes) -> dict[str, Any]:
        assert process.stdin is not None
        process.stdin.write(HEAD.pack(len(question)) + question)
        process.stdin.flush()
        deadline = time.monotonic() + self._seconds
        (size,) = HEAD.unpack(_read(process, HEAD.size, deadline))
        if size > MAX_BYTES:
            raise OSError("what it says is no answer")
        answer: dict[str, Any] = json.loads(_read(process, size, deadline))
        return answer

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        self._process = None

    def close(self) -> None:
        with self._turn:
            if self._process is not None:
                self._end(self._process)


def _read(process: subprocess.Popen[bytes], size: int, deadline: float) -> bytes:
    """Raises TimeoutError after the deadline, OSError when the process has ended."""
    assert process.stdout is not None
    read, pipe = bytearray(), process.stdout.fileno()
    waiting = select.poll()  # select() takes no file numbers beyond 1,023
    waiting.register(pipe, select.POLLIN)
    while len(read) < size:
        if not waiting.poll(max(0, int(1000 * (deadline - time.monotonic())))):
            raise TimeoutError
        part = os.read(pipe, size - len(read))
        if not part:
            raise OSError("it has ended")
        read += part
    return bytes(read)
