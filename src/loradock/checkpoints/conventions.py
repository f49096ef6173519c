"""Reads what a folder or a GGUF file says about texts: chat templates, the first token, the tokens that end an answer.

The one place that reads tokenizer_config.json, special_tokens_map.json, generation_config.json, config.json (its
tokens), the chat template files, and the same of a GGUF. Folders of base models and of adapters are read alike.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loradock.checkpoints.gguf.gguf_file import GgufFile
from loradock.types.errors import BadRequest

CONVENTION_FILES = frozenset(
    {
        "chat_template.jinja",
        "chat_template.json",
        "generation_config.json",
        "special_tokens_map.json",
        "tokenizer_config.json",
    }
)
"""The files of an adapter that are read here. All are optional."""
_MAX_BYTES = 16 * 2**20
_DEFAULT, _TOOLS = "default", "tool_use"
"""Names of templates, as transformers has them."""
_GGUF_ENDS = ("eos", "eot", "eom")


@dataclass(frozen=True)
class Conventions:
    """`templates` by name. An answer's end is known by id (`end_ids`) or by text (`end_texts`)."""

    templates: dict[str, str] = field(default_factory=dict)
    bos_token: str | None = None
    eos_token: str | None = None
    end_ids: frozenset[int] = frozenset()
    end_texts: frozenset[str] = frozenset()

    def template(self, *, tools: bool = False) -> str | None:
        """The text of the template to use, chosen as transformers does; one with another name if it is the only one."""
        names = (_TOOLS, _DEFAULT) if tools else (_DEFAULT,)
        chosen = next((self.templates[name] for name in names if name in self.templates), None)
        if chosen is None and len(self.templates) == 1:
            return next(iter(self.templates.values()))
        return chosen


def read_conventions(folder: Path) -> Conventions:
    """Read a folder in Hugging Face's form; empty where it has none of the files. Raises BadRequest naming the file."""
    tokenizer = _json(folder / "tokenizer_config.json")
    special = _json(folder / "special_tokens_map.json")
    generation = _json(folder / "generation_config.json")
    eos = _token(tokenizer, "eos_token") or _token(special, "eos_token")
    return Conventions(
        templates=_templates(folder, tokenizer),
        bos_token=_token(tokenizer, "bos_token") or _token(special, "bos_token"),
        eos_token=eos,
        end_ids=frozenset((*_ids(generation), *_ids(_json(folder / "config.json")))),
        end_texts=frozenset(() if eos is None else (eos,)),
    )


def gguf_conventions(file: GgufFile) -> Conventions:
    """Read a GGUF's metadata: every token that it calls the end of a text, of a turn or of a message ends an answer."""
    tokens: list[str] = file.fields.get("tokenizer.ggml.tokens") or []
    special = {kind: _gguf_id(file, kind, len(tokens)) for kind in ("bos", *_GGUF_ENDS)}
    bos, eos = (None if special[kind] is None else tokens[special[kind] or 0] for kind in ("bos", "eos"))
    return Conventions(
        templates=dict(_gguf_templates(file)),
        bos_token=bos,
        eos_token=eos,
        end_ids=frozenset(index for kind in _GGUF_ENDS if (index := special[kind]) is not None),
    )


def _gguf_id(file: GgufFile, kind: str, count: int) -> int | None:
    index = file.fields.get(f"tokenizer.ggml.{kind}_token_id")
    # -1, as unsigned, and other numbers beyond the vocabulary mean none.
    return index if isinstance(index, int) and 0 <= index < count else None


def _gguf_templates(file: GgufFile) -> Iterator[tuple[str, str]]:
    prefix = "tokenizer.chat_template"
    for key, value in file.fields.items():
        if isinstance(value, str) and key == prefix:
            yield _DEFAULT, value
        elif isinstance(value, str) and key.startswith(f"{prefix}."):
            yield key.removeprefix(f"{prefix}."), value


def _templates(folder: Path, tokenizer: dict[str, Any]) -> dict[str, str]:
    """A file of its own wins over what stands in tokenizer_config.json."""
    found = dict(_in_config(tokenizer.get("chat_template")))
    found |= dict(_in_config(_json(folder / "chat_template.json").get("chat_template")))
    own = folder / "chat_template.jinja"
    if own.is_file():
        found[_DEFAULT] = _text(own)
    for file in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        found[file.stem] = _text(file)
    return found


def _in_config(value: Any) -> Iterator[tuple[str, str]]:
    """A template, or a list (an object) of named ones."""
    if isinstance(value, str):
        yield _DEFAULT, value
    elif isinstance(value, dict):
        yield from ((name, text) for name, text in value.items() if isinstance(text, str))
    elif isinstance(value, list):
        for entry in value:
            if isinstance(entry, dict) and isinstance(entry.get("template"), str):
                yield str(entry.get("name", _DEFAULT)), entry["template"]


def _token(config: dict[str, Any], name: str) -> str | None:
    value = config.get(name)
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) and text else None


def _ids(config: dict[str, Any]) -> tuple[int, ...]:
    value = config.get("eos_token_id")
    values = value if isinstance(value, list) else [value]
    return tuple(one for one in values if isinstance(one, int) and not isinstance(one, bool) and one >= 0)


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = json.loads(_text(file))
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{file.name} is not JSON: {str(error)[:200]}") from error
    if not isinstance(content, dict):
        raise BadRequest(f"{file.name} holds no JSON object")
    return content


def _text(file: Path) -> str:
    if file.stat().st_size > _MAX_BYTES:
        raise BadRequest(f"{file.name} is larger than {_MAX_BYTES // 2**20} MiB")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(f"{file.name} is not UTF-8 text") from error
