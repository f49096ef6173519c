"""Answers a checked request: with a place in the queue, an adapter's lease, prompts, generations."""

from functools import partial

from loradock.engine.adapters.adapters import Adapters
from loradock.engine.generation.choice import Choice
from loradock.engine.generation.generation import Generation
from loradock.engine.kernels.constants import BLOCK_SIZE
from loradock.engine.requests.chat import ChatRequest
from loradock.engine.requests.completion import CompletionRequest
from loradock.engine.requests.generation import GenerationRequest
from loradock.engine.scheduling.admission import Admission, Owner
from loradock.engine.scheduling.loop import EngineLoop
from loradock.engine.service.generation_builder import GenerationBuilder
from loradock.engine.service.limits import Limits
from loradock.engine.service.metrics import Metrics
from loradock.engine.service.prompts import Prompts
from loradock.engine.service.request_state import Prompt, RequestState
from loradock.engine.text.conversations import Conversations
from loradock.engine.text.encoding import Aside, Encoder
from loradock.engine.text.tokenizer import TokenizerFiles
from loradock.engine.text.tokens import TokenBytes


class Service:
    """The operations that routes call; lives on the event loop's thread."""

    def __init__(self, loop: EngineLoop, adapters: Adapters, files: TokenizerFiles, limits: Limits) -> None:
        self.loop = loop
        self.adapters = adapters
        self.tokens = TokenBytes(files.tokenizer)
        self.metrics = Metrics()
        self.aside = Aside()
        self.admission = Admission(loop, limits.running, limits.waiting)
        self.encoder = Encoder(files.tokenizer, self.tokens, limits.context)
        self.conversations = Conversations(files, limits.vocabulary)
        self._prompts = Prompts(files.tokenizer, self.encoder, self.conversations, limits)
        self._builder = GenerationBuilder(files, self.tokens, self.conversations, limits)

    async def chat(self, request: ChatRequest, size: int = 0, account: str = "") -> RequestState:
        """`size` is about how many characters were sent. Raises LoradockError before anything is computed."""
        answer = await self._open(request.generation, account, 1)
        try:
            conversation = self.conversations.of(answer.lease.adapter)
            # A foreign template may take long, to be read already.
            foreign = conversation.foreign or request.chat_template is not None
            work = partial(self.aside.slowly, account) if foreign else partial(self.aside.run, size)
            offer, prompt = await work(lambda: self._prompts.chat(request, conversation))
            self._start(answer, [prompt], await self._builder.build(answer, [prompt], "messages", offer))
        except BaseException:
            answer.close()
            raise
        return answer

    async def complete(self, request: CompletionRequest, size: int = 0, account: str = "") -> RequestState:
        """`size` is about how many characters were sent. Raises LoradockError before anything is computed."""
        answer = await self._open(request.generation, account, len(request.prompts))
        try:
            prompts = [
                await self.aside.run(size, partial(self._prompts.plain, p, request.generation)) for p in request.prompts
            ]
            self._start(answer, prompts, await self._builder.build(answer, prompts, "prompt"))
        except BaseException:
            answer.close()
            raise
        return answer

    async def _open(self, request: GenerationRequest, account: str, prompts: int) -> RequestState:
        place = self.admission.enter(Owner(request.model, account), prompts * request.n)
        try:
            return RequestState(request, await self.adapters.lease(request.model), place, self.metrics)
        except BaseException:
            place.leave()
            raise

    def _start(self, answer: RequestState, prompts: list[Prompt], generations: list[tuple[Choice, Generation]]) -> None:
        answer.place.hand_over(sum(len(prompt.ids) // BLOCK_SIZE + 1 for prompt in prompts))
        answer.start(self.loop, prompts, generations)
