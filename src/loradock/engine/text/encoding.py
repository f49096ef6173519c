"""Texts to token ids, where it holds nobody up: away from the event loop, without the interpreter's lock, and no
further than a model's context goes.
"""

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import msgspec
from tokenizers import Tokenizer

from loradock.engine.errors import PromptTooLong
from loradock.engine.runtime.threads import processors
from loradock.engine.text.token_bound import TokenBound
from loradock.engine.text.tokens import TokenBytes

T = TypeVar("T")
_SLOW_THREADS = 2
_LONG = 20_000
_USUAL = 6
"""Characters per token that hardly any text has."""
_LONGEST = 64
"""Characters that hardly any token has."""
_PIECE = 1 << 14
_SLACK = 64
"""Tokens by which a text may be shorter than its pieces, for each of them: a cut falls into a word or a long run of
spaces, and a tokenizer may begin every text with a token."""


_IDS = re.compile(rb"\[\s*\d")


class _Prompted(msgspec.Struct):
    prompt: msgspec.Raw = msgspec.Raw(b"")
    messages: msgspec.Raw = msgspec.Raw(b"")
    truncate_prompt_tokens: Any = None
    chat_template: Any = None


class _Message(msgspec.Struct):
    content: msgspec.Raw = msgspec.Raw(b"")


class Aside:
    """A few threads for large requests. More than these would take the compute threads' processors."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max(1, min(4, len(processors()) // 4)), "aside")
        self._slow = ThreadPoolExecutor(_SLOW_THREADS, "slow")
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self, size: int, work: Callable[[], T]) -> T:
        """`work` on about `size` characters: at once where that is quick."""
        return work() if size < _LONG else await self.elsewhere(work)

    async def elsewhere(self, work: Callable[[], T]) -> T:
        """`work` in another thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def slowly(self, account: str, work: Callable[[], T]) -> T:
        """`work` that may take seconds, of an account one after the other: it holds up that one, not all."""
        turn = self._turns.setdefault(account, asyncio.Lock())
        async with turn:
            return await asyncio.get_running_loop().run_in_executor(self._slow, work)


class Encoder:
    """`tokens` are the tokenizer's; `context` is how many of them the model can take."""

    def __init__(self, tokenizer: Tokenizer, tokens: TokenBytes, context: int) -> None:
        self._tokenizer = tokenizer
        self._context = context
        self._bound = TokenBound(tokenizer, tokens)

    def encode(self, text: str, *, special: bool, param: str) -> list[int]:
        """Raises PromptTooLong, without reading on, once more came than fits in any case."""
        if len(text) > _USUAL * self._context:
            self._refuse_if_too_long(text, param)
        return self._ids(text, special=special)

    def encode_part(self, text: str, count: int, *, first: bool, special: bool) -> list[int]:
        """Return only the last `count` tokens, or the `first`, of a text of any length."""
        most = _LONGEST * (count + 1)
        ids = self._ids(text[:most] if first else text[-most:], special=special)
        return ids[:count] if first else ids[-count:]

    def check_length(self, ids: list[int], param: str) -> None:
        """Raises PromptTooLong."""
        if len(ids) > self._context:
            raise PromptTooLong(count=len(ids), context=self._context, param=param)

    def refuse_oversized(self, body: bytes) -> None:
        """Raises PromptTooLong when the prompt is an array of more token ids, there are more messages, or a text is
        longer, than fits: before it is decoded and each of millions becomes an object. What else is wrong with the
        body is for others to say."""
        if len(body) < _LONG:
            return
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            asked = msgspec.json.decode(body, type=_Prompted)
            if isinstance(kept := asked.truncate_prompt_tokens, int | float) and kept <= self._context:
                return
            prompt = bytes(asked.prompt)
            if _IDS.match(prompt) and (count := prompt.count(b",") + 1) > self._context:
                raise PromptTooLong(count=count, context=self._context, param="prompt")
            # Within a text these quotation marks have backslashes before them.
            if (count := bytes(asked.messages).count(b'"role"')) > self._context:
                raise PromptTooLong(count=f"at least {count}", context=self._context, param="messages")
            self._refuse_text(prompt, "prompt")
            if asked.messages and asked.chat_template is None:
                # Of earlier messages a template may leave out some; the last one is what is asked.
                messages = msgspec.json.decode(asked.messages, type=list[_Message])
                self._refuse_text(bytes(messages[-1].content) if messages else b"", "messages")

    def _refuse_text(self, text: bytes, param: str) -> None:
        """`text` is JSON: a string, or something else of which nothing is said here."""
        if text.lstrip().startswith(b'"') and self._bound.exceeds(text, self._context):
            raise PromptTooLong(count=f"more than {self._context}", context=self._context, param=param)

    def _refuse_if_too_long(self, text: str, param: str) -> None:
        count = 0
        for start in range(0, len(text), _PIECE):
            count += max(0, len(self._ids(text[start : start + _PIECE], special=False)) - _SLACK)
            if count > self._context:
                raise PromptTooLong(count=f"more than {count}", context=self._context, param=param)

    def _ids(self, text: str, *, special: bool) -> list[int]:
        # Of tokenizers 0.23 only the batch calls give the interpreter's lock away while they work.
        return self._tokenizer.encode_batch_fast([text], add_special_tokens=special)[0].ids
