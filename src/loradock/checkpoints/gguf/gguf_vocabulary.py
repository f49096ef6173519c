"""The ways a GGUF's vocabulary splits texts: which are known, and what llama.cpp knows about each without being told.

The names and their meaning: https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp. The expressions are
those of the families' own tokenizer.json files.
"""

from dataclasses import dataclass

from loradock.checkpoints.gguf.gguf_file import GgufFile
from loradock.types.errors import BadRequest

SENTENCEPIECE, BYTE_LEVEL = "llama", "gpt2"
"""The two kinds of vocabulary that are read (`tokenizer.ggml.model`)."""
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA_3 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _REST
_QWEN_2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _REST
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Splitting:
    """A way to cut text before the merges. `expression` None: as GPT-2 does. `digits`: each by itself first.

    `whole`: a piece that is in the vocabulary is taken as it is, whatever the merges say. `begins`: a text begins with
    the first token unless the file says otherwise. `composed`: the text is brought into Unicode's form NFC first.
    """

    expression: str | None = None
    digits: bool = False
    whole: bool = False
    begins: bool = False
    composed: bool = False


_GPT_2 = Splitting()
_DIGITS = Splitting(digits=True)
_LLAMA = Splitting(_LLAMA_3, whole=True, begins=True)
_QWEN = Splitting(_QWEN_2, composed=True)
_KINDS = {
    **dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral", "lfm2"), _LLAMA),
    **dict.fromkeys(("dbrx", "smaug-bpe"), Splitting(_LLAMA_3)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), _QWEN),
    **dict.fromkeys(("gpt-2", "phi-2", "olmo", "mpt"), _GPT_2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell"), _DIGITS),
    "tekken": Splitting(_TEKKEN, whole=True, begins=True),
}


def splitting_of(file: GgufFile) -> Splitting | None:
    """None for a SentencePiece vocabulary, which is not cut. Raises BadRequest for what is not known."""
    model = file.fields.get("tokenizer.ggml.model")
    if model == SENTENCEPIECE:
        return None
    if model != BYTE_LEVEL:
        raise BadRequest(
            f"the GGUF file's vocabulary of kind {model!r} is not known (known: {BYTE_LEVEL}, {SENTENCEPIECE}): use the"
            " Hugging Face folder of this model"
        )
    kind = file.fields.get("tokenizer.ggml.pre", "default")
    if kind not in _KINDS:
        raise BadRequest(
            f"the GGUF file's pre-tokenizer {kind!r} is not known (known: {', '.join(sorted(_KINDS))}): use the Hugging"
            " Face folder of this model"
        )
    return _KINDS[kind]


def check_vocabulary(file: GgufFile) -> None:
    """Raises BadRequest for a vocabulary that is not known, or of which a part is missing."""
    ordered_by = "merges" if splitting_of(file) else "scores"
    for part in ("tokens", "token_type", ordered_by):
        if f"tokenizer.ggml.{part}" not in file.fields:
            raise BadRequest(f"the GGUF file has no tokenizer.ggml.{part}: convert the model again")
