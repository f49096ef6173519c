"""OpenAI's shapes: https://platform.openai.com/docs/api-reference."""

from loradock.engine.generation.choice import Choice, Delta, Finish, Token
from loradock.engine.http.responses import logprobs
from loradock.engine.http.responses.shape import Json, ResponseFormat, tool_calls


class OpenAIChat(ResponseFormat):
    whole_object, chunk_object, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def whole(self) -> Json:
        choices = [self._choice(choice) for choice in self.answer.choices]
        return {**self.head(self.whole_object), "choices": choices, "usage": self.usage()}

    def opening(self, choice: Choice) -> Json:
        return self._chunk(choice, {"role": "assistant", "content": ""}, Delta())

    def chunk(self, choice: Choice, delta: Delta) -> Json:
        fields: Json = {"content": delta.text} if delta.text else {}
        if delta.calls:
            fields["tool_calls"] = tool_calls(delta, len(choice.whole.calls) - len(delta.calls))
        return self._chunk(choice, fields, delta)

    def _chunk(self, choice: Choice, fields: Json, delta: Delta) -> Json:
        body = {
            "index": choice.index,
            "delta": fields,
            "logprobs": self.logprobs(delta.tokens) if delta.tokens else None,
            "finish_reason": finish_reason(delta.finish),
        }
        chunk = {**self.head(self.chunk_object), "choices": [body]}
        return {**chunk, "usage": None} if self.answer.request.stream_options.include_usage else chunk

    def _choice(self, choice: Choice) -> Json:
        whole = choice.whole
        message: Json = {"role": "assistant", "content": whole.text, "refusal": None}
        if whole.calls:
            message |= {"content": whole.text or None, "tool_calls": tool_calls(whole)}
        return {
            "index": choice.index,
            "message": message,
            "logprobs": self.logprobs(whole.tokens),
            "finish_reason": finish_reason(whole.finish),
        }


class OpenAICompletion(ResponseFormat):
    whole_object, chunk_object, prefix = "text_completion", "text_completion", "cmpl"

    def whole(self) -> Json:
        choices = [self._whole_choice(choice) for choice in self.answer.choices]
        return {**self.head(self.whole_object), "choices": choices, "usage": self.usage()}

    def opening(self, choice: Choice) -> Json | None:
        """The echoed prompt."""
        if not self.answer.request.echo:
            return None
        prompt = self.prompt_of(choice)
        return self._chunk(self._choice(choice, Delta(prompt.text, prompt.tokens), 0))

    def chunk(self, choice: Choice, delta: Delta) -> Json:
        before = choice.whole.tokens[: len(choice.whole.tokens) - len(delta.tokens)]
        return self._chunk(self._choice(choice, delta, self._length(self._echoed(choice) + before)))

    def _chunk(self, choice: Json) -> Json:
        chunk = {**self.head(self.chunk_object), "choices": [choice]}
        return {**chunk, "usage": None} if self.answer.request.stream_options.include_usage else chunk

    def _whole_choice(self, choice: Choice) -> Json:
        whole, echoed = choice.whole, self._echoed(choice)
        text = self.prompt_of(choice).text if self.answer.request.echo else ""
        return self._choice(choice, Delta(text + whole.text, echoed + whole.tokens, finish=whole.finish), 0)

    def _choice(self, choice: Choice, delta: Delta, offset: int) -> Json:
        wanted = self.answer.request.logprob_shape is not None
        return {
            "index": choice.index,
            "text": delta.text,
            "logprobs": logprobs.legacy(delta.tokens, self.names, offset) if wanted else None,
            "finish_reason": finish_reason(delta.finish),
        }

    def _echoed(self, choice: Choice) -> list[Token]:
        return self.prompt_of(choice).tokens if self.answer.request.echo else []

    def _length(self, tokens: list[Token]) -> int:
        if self.answer.request.logprob_shape is None:
            return 0
        return sum(len(self.names.text(token.id)) for token in tokens)


def finish_reason(finish: Finish | None) -> str | None:
    return "stop" if finish is Finish.EOS else finish
