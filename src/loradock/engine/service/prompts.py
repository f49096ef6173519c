"""Turns a request's text, messages or token ids into the prompt that is computed."""

from tokenizers import Tokenizer

from loradock.engine.requests.chat import ChatRequest
from loradock.engine.requests.generation import GenerationRequest
from loradock.engine.service.limits import Limits
from loradock.engine.service.offers import Offer, read_offer
from loradock.engine.service.request_state import Prompt
from loradock.engine.text.chat import ChatTemplate
from loradock.engine.text.conversations import Conversation, Conversations
from loradock.engine.text.encoding import Encoder
from loradock.engine.tool_calls.written_json import whole_characters
from loradock.types.errors import BadRequest


class Prompts:
    """Makes prompts of requests. May be asked from any thread."""

    def __init__(self, tokenizer: Tokenizer, encoder: Encoder, conversations: Conversations, limits: Limits) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._conversations = conversations
        self._limits = limits

    def chat(self, request: ChatRequest, conversation: Conversation) -> tuple[Offer | None, Prompt]:
        """Return the prompt with the tools that are offered, if any. Raises BadRequest and ContextExceeded."""
        template = self._template(request, conversation)
        offer = read_offer(request, template)
        tools = offer.tools if offer else [] if request.tools == [] else None
        text = template.render(
            request.messages, tools, request.template_kwargs, opens=request.opens, continues=request.continues
        )
        text = whole_characters(text)  # arguments of earlier calls are JSON, which can hold halves of a pair
        special = bool(request.generation.prompt.special)
        return offer, self._encoded(text, request.generation, "messages", special=special)

    def plain(self, prompt: str | list[int], request: GenerationRequest) -> Prompt:
        """Return one prompt of a completion. Raises BadRequest and ContextExceeded."""
        if isinstance(prompt, str):
            return self._encoded(prompt, request, "prompt", special=request.prompt.special is not False)
        kept = self._kept(request)
        if kept is None:
            self._encoder.check_length(prompt, "prompt")
        else:
            prompt = prompt[:kept] if request.prompt.first else prompt[-kept:]
        known = self._known(prompt)  # before decoding, which would leave others out
        return Prompt(self._tokenizer.decode(known, skip_special_tokens=False), known)

    def _template(self, request: ChatRequest, conversation: Conversation) -> ChatTemplate:
        """The request's own, else the adapter's, else the base model's. Raises BadRequest where there is none."""
        tools = bool(request.tools) and request.tool_choice != "none"
        template = self._conversations.template(conversation, request.chat_template, tools=tools)
        if template is None:
            raise BadRequest(
                "neither this base model nor the adapter has a chat template: send one as chat_template, or use"
                " /v1/completions",
                param="messages",
            )
        return template

    def _encoded(self, text: str, request: GenerationRequest, param: str, *, special: bool) -> Prompt:
        kept = self._kept(request)
        if kept is None:
            return Prompt(text, self._known(self._encoder.encode(text, special=special, param=param)))
        ids = self._known(self._encoder.encode_part(text, kept, first=request.prompt.first, special=special))
        return Prompt(self._tokenizer.decode(ids, skip_special_tokens=False), ids)

    def _kept(self, request: GenerationRequest) -> int | None:
        """Return how many tokens of a prompt were asked for at most; None also where as many do not fit anyway."""
        keep = request.prompt.keep
        if keep == -1:
            return max(1, self._limits.context - (request.max_tokens or 1))
        return None if keep is None or keep > self._limits.context else keep

    def _known(self, prompt: list[int]) -> list[int]:
        """The same, once it is clear that the model knows all of them."""
        self._limits.check_vocabulary(prompt, "prompt")
        return prompt
