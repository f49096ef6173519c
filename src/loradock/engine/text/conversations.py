"""The form of chats with the base model and with each adapter: the template, and which tokens end an answer."""

import weakref
from dataclasses import dataclass
from functools import lru_cache

from tokenizers import Tokenizer

from loradock.checkpoints.conventions import Conventions, read_conventions
from loradock.engine.adapters.lora import LoadedAdapter
from loradock.engine.text.chat import ChatTemplate
from loradock.engine.text.foreign_template import ForeignTemplate
from loradock.engine.text.template_process import TemplateProcess
from loradock.engine.text.tokenizer import TokenizerFiles, ends
from loradock.types.errors import AdapterRefused, BadRequest


@dataclass(frozen=True)
class Conversation:
    """`conventions` hold the templates; `foreign`: they came with an adapter. `eos_ids` end an answer."""

    conventions: Conventions
    eos_ids: frozenset[int]
    foreign: bool = False


class Conversations:
    """The conversations of one engine. An adapter's folder may bring its own template and name further ends.

    Training tools save both beside the adapter, to be loaded with it. Where it says nothing the base model's count.
    """

    def __init__(self, files: TokenizerFiles, vocabulary: int) -> None:
        self._tokenizer: Tokenizer = files.tokenizer
        self._vocabulary = vocabulary
        self._base = Conversation(files.conventions, files.eos_ids)
        self._own: weakref.WeakKeyDictionary[LoadedAdapter, Conversation] = weakref.WeakKeyDictionary()
        self._process = TemplateProcess()
        self._here = lru_cache(16)(ChatTemplate)
        self._apart = lru_cache(256)(self._foreign)

    def of(self, adapter: LoadedAdapter | None) -> Conversation:
        """Return how chats with the adapter are written."""
        if adapter is None:
            return self._base
        if adapter not in self._own:
            self._own[adapter] = self._merged(adapter.conventions)
        return self._own[adapter]

    def template(self, conversation: Conversation, source: str | None, *, tools: bool) -> ChatTemplate | None:
        """The request's own (`source`), the adapter's or the base model's. Raises BadRequest for broken text."""
        own = source is not None
        source = conversation.conventions.template(tools=tools) if source is None else source
        if source is None:
            return None
        make = self._apart if own or conversation.foreign else self._here
        return make(source, conversation.conventions.bos_token, conversation.conventions.eos_token)

    def close(self) -> None:
        self._process.close()

    def _merged(self, own: Conventions) -> Conversation:
        base = self._base.conventions
        conventions = Conventions(
            templates=own.templates or base.templates,
            bos_token=own.bos_token or base.bos_token,
            eos_token=own.eos_token or base.eos_token,
        )
        more = ends(own, self._tokenizer, self._vocabulary)
        return Conversation(conventions, self._base.eos_ids | more, foreign=bool(own.templates))

    def _foreign(self, source: str, bos_token: str | None, eos_token: str | None) -> ForeignTemplate:
        return ForeignTemplate(source, bos_token, eos_token, self._process)


def bring_conventions(adapter: LoadedAdapter) -> LoadedAdapter:
    """Read what its folder says about texts. Raises AdapterRefused where that cannot be used."""
    try:
        adapter.conventions = read_conventions(adapter.path)
        for source in adapter.conventions.templates.values():
            ForeignTemplate.check(source)
    except BadRequest as error:
        raise AdapterRefused(f"the adapter's files about texts cannot be used: {error.message}") from error
    return adapter
