"""The process that renders strangers' chat templates: questions on standard input, answers on standard output."""

import json
import resource
import sys
from functools import lru_cache
from typing import Any, BinaryIO

from loradock.engine.text.chat import ChatTemplate
from loradock.engine.text.template_process import HEAD, MAX_BYTES
from loradock.types.errors import BadRequest

_MEMORY = 512 * 2**20
"""Bytes of address space."""
_TOO_LONG = {"error": "the chat template makes a text that is too long", "param": "chat_template"}


def main() -> None:
    """Answer questions until standard input ends."""
    limit(resource.RLIMIT_AS, _MEMORY)
    limit(resource.RLIMIT_FSIZE, 0)
    limit(resource.RLIMIT_CORE, 0)
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    _write(answers, b"")
    while head := questions.read(HEAD.size):
        question = json.loads(questions.read(*HEAD.unpack(head)))
        content = json.dumps(answer(question)).encode()
        _write(answers, content if len(content) <= MAX_BYTES else json.dumps(_TOO_LONG).encode())


def answer(question: dict[str, Any]) -> dict[str, str]:
    """Answer {source, messages, tools, variables} with {text}, or {error, param}."""
    try:
        template = _template(question["source"])
        text = template.fill_in(question["messages"], question["tools"], question["variables"])
    except BadRequest as error:
        return {"error": error.message, "param": error.param or "chat_template"}
    except Exception as error:  # Jinja makes Python of a template, which can be refused in any way
        reason = " ".join(f"{type(error).__name__} {error}".split())[:200]
        return {"error": f"the chat template fails: {reason}", "param": "chat_template"}
    return {"text": text} if len(text) <= MAX_BYTES // 8 else _TOO_LONG


@lru_cache(maxsize=64)
def _template(source: str) -> ChatTemplate:
    return ChatTemplate(source, None, None)


def limit(kind: int, most: int) -> None:
    """Lower a limit of this process; one that is lower already stays."""
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def _write(pipe: BinaryIO, content: bytes) -> None:
    pipe.write(HEAD.pack(len(content)) + content)
    pipe.flush()


if __name__ == "__main__":
    main()
