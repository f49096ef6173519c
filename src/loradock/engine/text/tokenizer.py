"""The tokenizer of a checkpoint and what its files say about texts, without transformers."""

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.conventions import Conventions, gguf_conventions, read_conventions
from loradock.checkpoints.gguf.gguf_metadata import open_gguf
from loradock.engine.text.gguf_tokenizer import gguf_tokenizer
from loradock.types.errors import BadRequest


@dataclass(frozen=True)
class TokenizerFiles:
    """`eos_ids` end generation."""

    tokenizer: Tokenizer
    conventions: Conventions
    eos_ids: frozenset[int]


def load_tokenizer(path: Path, architecture: Architecture) -> TokenizerFiles:
    """Raises BadRequest when the checkpoint has no usable tokenizer."""
    if path.suffix == ".gguf":
        file = open_gguf(path)
        tokenizer, conventions = gguf_tokenizer(file), gguf_conventions(file)
    else:
        tokenizer, conventions = _of_folder(path), read_conventions(path)
    # What was set for training would cut or fill up every prompt.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return TokenizerFiles(tokenizer, conventions, ends(conventions, tokenizer, architecture.vocab_size))


def ends(conventions: Conventions, tokenizer: Tokenizer, vocabulary: int) -> frozenset[int]:
    """The ids, known to the model, of all tokens that these conventions call an end."""
    named = (tokenizer.token_to_id(text) for text in conventions.end_texts)
    return frozenset(index for index in (*conventions.end_ids, *named) if index is not None and index < vocabulary)


def _of_folder(path: Path) -> Tokenizer:
    file = path / "tokenizer.json"
    if not file.is_file():
        raise BadRequest(f"{path.name} has no tokenizer.json; save a fast tokenizer beside the weights")
    try:
        return Tokenizer.from_file(str(file))
    # The library raises nothing more particular.
    except Exception as error:
        raise BadRequest(f"the tokenizer.json of {path.name} cannot be read: {str(error)[:200]}") from error
