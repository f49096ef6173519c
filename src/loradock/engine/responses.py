"""Response bodies for the two client families (types.enums.Dialect).

Shapes: https://platform.openai.com/docs/api-reference and Together's published OpenAPI description.
"""

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from tokenizers import Tokenizer

from loradock.engine.core import FinishReason
from loradock.engine.sampling import TokenLogprobs
from loradock.engine.service import Job, Piece
from loradock.types.enums import Dialect

Json = dict[str, Any]


@dataclass
class Shape:
    """What all bodies of one response share."""

    job: Job
    dialect: Dialect
    chat: bool
    tokenizer: Tokenizer
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def together(self) -> bool:
        return self.dialect is Dialect.TOGETHER

    def whole(self, pieces: dict[int, list[Piece]]) -> Json:
        """The body of a response that is not streamed."""
        body = self._head(chunk=False)
        if self.together:
            body["prompt"] = self._prompts() if self.job.request.echo else []
        body["choices"] = [self._choice(index, pieces[index]) for index in sorted(pieces)]
        return {**body, "usage": self.usage()}

    def chunk(self, piece: Piece, *, first: bool) -> Json:
        """One event of a stream."""
        choice: Json = {"index": piece.choice, "finish_reason": self._finish(piece)}
        if self.chat:
            choice["delta"] = {**({"role": "assistant"} if first else {}), "content": piece.text}
        else:
            choice["text"] = piece.text
        choice["logprobs"] = self._logprobs(piece.tokens)
        body = {**self._head(chunk=True), "choices": [choice]}
        if self.together:
            self._together_chunk(body, choice, piece)
        return body

    def last_chunk(self) -> Json:
        """The usage event that OpenAI clients ask for."""
        return {**self._head(chunk=True), "choices": [], "usage": self.usage()}

    def usage(self) -> Json:
        prompt, completion = self.job.prompt_tokens, self.job.completion_tokens
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def _head(self, *, chunk: bool) -> Json:
        if self.chat:
            kind, prefix = "chat.completion.chunk" if chunk else "chat.completion", "chatcmpl"
        elif self.together:
            kind, prefix = "completion.chunk" if chunk else "text.completion", "cmpl"
        else:
            kind, prefix = "text_completion", "cmpl"
        return {"id": f"{prefix}-{self.id}", "object": kind, "created": self.created, "model": self.job.request.model}

    def _together_chunk(self, body: Json, choice: Json, piece: Piece) -> None:
        token, logprobs = piece.tokens[-1]
        choice["logprobs"] = logprobs.logprob if logprobs else None
        if self.chat:
            choice["delta"]["token_id"] = token
        else:
            special = token == piece.tokens[-1][0] and piece.by_eos
            body["token"] = {"id": token, "text": piece.text, "logprob": choice["logprobs"], "special": special}
        if self.job.request.seed is not None:
            choice["seed"] = self.job.request.seed
        if piece.finish is not None:
            body["usage"] = self.usage()

    def _choice(self, index: int, pieces: list[Piece]) -> Json:
        text = "".join(piece.text for piece in pieces)
        tokens = [token for piece in pieces for token in piece.tokens]
        choice: Json = {"index": index, "finish_reason": self._finish(pieces[-1]), "logprobs": self._logprobs(tokens)}
        if self.job.request.seed is not None:
            choice["seed"] = self.job.request.seed
        if self.chat:
            return {
                **choice,
                "message": {"role": "assistant", "content": text, "tool_calls": [] if self.together else None},
            }
        return {**choice, **self._echoed(index, text, choice["logprobs"])}

    def _echoed(self, index: int, text: str, logprobs: Json | None) -> Json:
        """OpenAI's completions put the echoed prompt in front of the text; Together's have a field for it."""
        if not self.job.request.echo or self.together:
            return {"text": text}
        prompt = self._prompt_of(index)
        known = self.job.prompt_logprobs.get(index - index % (self.job.request.n or 1))
        if logprobs is not None and known is not None:
            before = self._legacy([(lp.token, lp) for lp in known], first=prompt[0])
            logprobs = {key: before[key] + values for key, values in logprobs.items()}
        return {"text": self.tokenizer.decode(prompt, skip_special_tokens=True) + text, "logprobs": logprobs}

    def _prompts(self) -> list[Json]:
        per_prompt = self.job.request.n or 1
        result = []
        for number, prompt in enumerate(self.job.prompts):
            known = self.job.prompt_logprobs.get(number * per_prompt)
            logprobs = self._legacy([(lp.token, lp) for lp in known], first=prompt[0]) if known else None
            result.append({"text": self.tokenizer.decode(prompt, skip_special_tokens=False), "logprobs": logprobs})
        return result

    def _prompt_of(self, choice: int) -> list[int]:
        return self.job.prompts[choice // (self.job.request.n or 1)]

    def _finish(self, piece: Piece) -> str | None:
        if piece.finish is None:
            return None
        if self.together and piece.finish is FinishReason.STOP and piece.by_eos:
            return "eos"
        return piece.finish.value

    def _logprobs(self, tokens: list[tuple[int, TokenLogprobs | None]]) -> Json | None:
        if self.job.request.top_logprobs_wanted is None:
            return None
        if self.chat and self.job.request.logprobs is True:
            return {"content": [self._content(lp) for _, lp in tokens if lp], "refusal": None}
        return self._legacy(tokens)

    def _content(self, logprobs: TokenLogprobs) -> Json:
        return {
            **self._entry(logprobs.token, logprobs.logprob),
            "top_logprobs": [self._entry(token, logprob) for token, logprob in logprobs.top],
        }

    def _entry(self, token: int, logprob: float) -> Json:
        text = self._text(token)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    def _legacy(self, tokens: list[tuple[int, TokenLogprobs | None]], first: int | None = None) -> Json:
        """Parallel lists, as OpenAI's completions and all of Together's have; `first` has no probability."""
        start: list[tuple[int, TokenLogprobs | None]] = [(first, None)] if first is not None else []
        entries = start + tokens
        texts = [self._text(token) for token, _ in entries]
        offsets = [sum(len(text) for text in texts[:index]) for index in range(len(texts))]
        return {
            "tokens": texts,
            "token_ids": [token for token, _ in entries],
            "token_logprobs": [lp.logprob if lp else None for _, lp in entries],
            "top_logprobs": [{self._text(t): p for t, p in lp.top} if lp else None for _, lp in entries],
            "text_offset": offsets,
        }

    def _text(self, token: int) -> str:
        return str(self.tokenizer.decode([token], skip_special_tokens=False))
