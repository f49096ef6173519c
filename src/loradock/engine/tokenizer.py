"""The tokenizer and chat template of a checkpoint, without transformers."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.gguf_file import GgufFile
from loradock.checkpoints.gguf_metadata import gguf_value, open_gguf
from loradock.types.errors import BadRequest

_CONTROL, _USER_DEFINED = 3, 4
_QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class TokenizerFiles:
    """`eos_ids` end generation; the chat template is Jinja text or None."""

    tokenizer: Tokenizer
    chat_template: str | None
    bos_token: str | None
    eos_token: str | None
    eos_ids: frozenset[int]


def load_tokenizer(path: Path, architecture: Architecture) -> TokenizerFiles:
    """Raises BadRequest when the checkpoint has no usable tokenizer."""
    return _from_gguf(open_gguf(path), architecture) if path.suffix == ".gguf" else _from_folder(path, architecture)


def _from_folder(path: Path, architecture: Architecture) -> TokenizerFiles:
    file = path / "tokenizer.json"
    if not file.is_file():
        raise BadRequest(f"{path.name} has no tokenizer.json; save a fast tokenizer beside the weights")
    config = _json(path / "tokenizer_config.json")
    template = path / "chat_template.jinja"
    return TokenizerFiles(
        Tokenizer.from_file(str(file)),
        template.read_text() if template.is_file() else _template(config.get("chat_template")),
        _text(config.get("bos_token")),
        _text(config.get("eos_token")),
        frozenset(architecture.eos_token_ids),
    )


def _json(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return content


def _template(value: Any) -> str | None:
    if isinstance(value, list):
        return next((entry["template"] for entry in value if entry["name"] == "default"), None)
    return value if isinstance(value, str) else None


def _text(token: Any) -> str | None:
    text: str | None = token["content"] if isinstance(token, dict) else token
    return text


def _from_gguf(reader: GgufFile, architecture: Architecture) -> TokenizerFiles:
    if gguf_value(reader, "tokenizer.ggml.model") != "gpt2":
        raise BadRequest("only byte-level BPE vocabularies are read from GGUF; use the Hugging Face folder")
    tokens: list[str] = gguf_value(reader, "tokenizer.ggml.tokens")
    kinds: list[int] = gguf_value(reader, "tokenizer.ggml.token_type")
    merges = [tuple(m.split(" ", 1)) for m in gguf_value(reader, "tokenizer.ggml.merges")]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    kind = gguf_value(reader, "tokenizer.ggml.pre", "default")
    tokenizer.pre_tokenizer = _pre_tokenizer(kind)
    if kind == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(t, normalized=False) for t, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    )
    tokenizer.add_tokens(
        [AddedToken(t, normalized=False) for t, kind in zip(tokens, kinds, strict=True) if kind == _USER_DEFINED]
    )

    def token(key: str) -> str | None:
        index = gguf_value(reader, f"tokenizer.ggml.{key}_token_id")
        return None if index is None else tokens[index]

    template = gguf_value(reader, "tokenizer.chat_template")
    return TokenizerFiles(tokenizer, template, token("bos"), token("eos"), frozenset(architecture.eos_token_ids))


def _pre_tokenizer(name: str) -> pre_tokenizers.PreTokenizer:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=name != "qwen2")
    if name == "qwen2":
        return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(_QWEN_SPLIT), "isolated"), byte_level])
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    raise BadRequest(
        f"the GGUF pre-tokenizer {name!r} is not known (known: smollm, qwen2); use the Hugging Face folder"
    )
