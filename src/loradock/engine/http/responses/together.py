"""Together's shapes, as its Python and TypeScript clients parse them."""

from abc import abstractmethod

from loradock.engine.generation.choice import Choice, Delta
from loradock.engine.http.responses import logprobs
from loradock.engine.http.responses.shape import Json, ResponseFormat, tool_calls
from loradock.engine.requests.generation import LogprobShape


class _Together(ResponseFormat):
    def whole(self) -> Json:
        return {
            **self.head(self.whole_object),
            "prompt": self.prompts(),
            "choices": [
                {
                    "index": choice.index,
                    "finish_reason": choice.finish,
                    "seed": choice.seed,
                    "logprobs": self.logprobs(choice.whole.tokens),
                    **self.content(choice.whole),
                }
                for choice in self.answer.choices
            ],
            "usage": self.usage(),
        }

    @abstractmethod
    def content(self, whole: Delta) -> Json:
        """The field of a choice that holds the text."""

    def prompts(self) -> list[Json]:
        if not self.answer.request.echo:
            return []
        wanted = self.answer.request.logprob_shape is not None
        return [
            {"text": prompt.text, "logprobs": logprobs.lists(prompt.tokens, self.names) if wanted else None}
            for prompt in self.answer.prompts
        ]

    def closing(self) -> Json | None:
        """Return nothing: the usage came with the last finish."""
        return None

    def chunk_of(self, choice: Choice, delta: Delta, fields: Json) -> Json:
        body = {**self.head(self.chunk_object), "choices": [self._chunk_choice(choice, delta, fields)], "usage": None}
        if delta.finish and all(other.finish for other in self.answer.choices):
            body["usage"] = self.usage()
        return body

    def _chunk_choice(self, choice: Choice, delta: Delta, fields: Json) -> Json:
        return {
            "index": choice.index,
            **fields,
            "logprobs": self._chunk_logprobs(delta),
            "finish_reason": delta.finish,
            "seed": choice.seed,
        }

    def _chunk_logprobs(self, delta: Delta) -> float | Json | None:
        """The log probability of the chunk's last token."""
        if self.answer.request.logprob_shape is LogprobShape.CONTENT:
            return self.logprobs(delta.tokens) if delta.tokens else None
        last = delta.tokens[-1].logprobs if delta.tokens else None
        return last.logprob if last else None


class TogetherChat(_Together):
    whole_object, chunk_object, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def content(self, whole: Delta) -> Json:
        calls = [{"index": i, **call} for i, call in enumerate(tool_calls(whole))]
        return {"message": {"role": "assistant", "content": whole.text, "tool_calls": calls}}

    def opening(self, choice: Choice) -> Json:
        chunk = self.chunk_of(choice, Delta(), {"delta": {"role": "assistant", "content": ""}})
        return {**chunk, "prompt": self.prompts()} if self.answer.request.echo else chunk

    def chunk(self, choice: Choice, delta: Delta) -> Json:
        fields: Json = {"role": "assistant", "content": delta.text}
        if delta.tokens:
            fields["token_id"] = delta.tokens[-1].id
        if delta.calls:
            fields["tool_calls"] = tool_calls(delta, len(choice.whole.calls) - len(delta.calls))
        return self.chunk_of(choice, delta, {"delta": fields})


class TogetherCompletion(_Together):
    whole_object, chunk_object, prefix = "text.completion", "completion.chunk", "cmpl"

    def content(self, whole: Delta) -> Json:
        return {"text": whole.text}

    def opening(self, choice: Choice) -> Json | None:
        if not self.answer.request.echo:
            return None
        return {**self.chunk(choice, Delta()), "prompt": self.prompts()}

    def chunk(self, choice: Choice, delta: Delta) -> Json:
        chunk = self.chunk_of(choice, delta, {"text": delta.text})
        last = delta.tokens[-1] if delta.tokens else None
        chunk["token"] = last and {
            "id": last.id,
            "text": delta.text,
            "logprob": last.logprobs.logprob if last.logprobs else None,
            "special": last.id in self.names.special,
        }
        return {**chunk, "finish_reason": delta.finish}
