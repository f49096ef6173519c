"""A tokenizer made of a GGUF's vocabulary."""

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from loradock.checkpoints.gguf.gguf_file import GgufFile
from loradock.checkpoints.gguf.gguf_vocabulary import Splitting, splitting_of
from loradock.types.errors import BadRequest

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4
"""Values of `tokenizer.ggml.token_type`: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md."""
_BLANK = "\u2581"
"""The character for a blank in SentencePiece's pieces."""


def gguf_tokenizer(file: GgufFile) -> Tokenizer:
    """Raises BadRequest for a vocabulary that is not known, or not whole."""
    splitting = splitting_of(file)
    try:
        tokens: list[str] = file.fields["tokenizer.ggml.tokens"]
        kinds: list[int] = file.fields["tokenizer.ggml.token_type"]
        tokenizer = _sentencepiece(file, tokens) if splitting is None else _byte_level(file, tokens, splitting)
        _add_special(tokenizer, tokens, kinds)
        _begin_and_end(tokenizer, file, tokens, begins=splitting is None or splitting.begins)
    except KeyError as missing:
        raise BadRequest(f"the GGUF file has no {missing.args[0]}: convert the model again") from missing
    except (IndexError, ValueError, TypeError) as error:
        raise BadRequest(f"the GGUF file's vocabulary cannot be read: {error}") from error
    return tokenizer


def _byte_level(file: GgufFile, tokens: list[str], splitting: Splitting) -> Tokenizer:
    merges = [tuple(merge.split(" ", 1)) for merge in file.fields["tokenizer.ggml.merges"]]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=splitting.whole))
    cuts: list[pre_tokenizers.PreTokenizer] = []
    if splitting.digits:
        cuts.append(pre_tokenizers.Digits(individual_digits=True))
    if splitting.expression is not None:
        cuts.append(pre_tokenizers.Split(Regex(splitting.expression), "isolated"))
    cuts.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=splitting.expression is None))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    if splitting.composed:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(file: GgufFile, tokens: list[str]) -> Tokenizer:
    """Pieces are joined in the order of their scores, and what is not a piece is spelled in bytes."""
    scores: list[float] = file.fields["tokenizer.ggml.scores"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    unknown = next((t for t, kind in zip(tokens, file.fields["tokenizer.ggml.token_type"], strict=True)
                    if kind == _UNKNOWN), None)  # fmt: skip
    merges = _merges(vocabulary, scores)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    prefix = bool(file.fields.get("tokenizer.ggml.add_space_prefix", True))
    blanks = normalizers.Replace(" ", _BLANK)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_BLANK), blanks]) if prefix else blanks
    parts = [decoders.Replace(_BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)] if prefix else parts)
    return tokenizer


def _merges(vocabulary: dict[str, int], scores: list[float]) -> list[tuple[str, str]]:
    """Return every way to join two pieces to a third, the ones with the highest scores first."""
    found = [
        (-scores[index], index, vocabulary[piece[:at]], vocabulary[piece[at:]], piece[:at], piece[at:])
        for piece, index in vocabulary.items()
        for at in range(1, len(piece))
        if piece[:at] in vocabulary and piece[at:] in vocabulary
    ]
    return [(left, right) for *_, left, right in sorted(found)]


def _add_special(tokenizer: Tokenizer, tokens: list[str], kinds: list[int]) -> None:
    for wanted, add in ((_CONTROL, tokenizer.add_special_tokens), (_USER_DEFINED, tokenizer.add_tokens)):
        add([AddedToken(t, normalized=False) for t, kind in zip(tokens, kinds, strict=True) if kind == wanted])


def _begin_and_end(tokenizer: Tokenizer, file: GgufFile, tokens: list[str], *, begins: bool) -> None:
    """The tokens that a text begins and ends with, as the file says, or as its kind of vocabulary has it."""
    before = _wanted(file, "bos", tokens, default=begins)
    after = _wanted(file, "eos", tokens, default=False)
    ids = {token: tokens.index(token) for token in (*before, *after)}
    if ids:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=" ".join([*before, "$A", *after]), pair=None, special_tokens=list(ids.items())
        )


def _wanted(file: GgufFile, kind: str, tokens: list[str], *, default: bool) -> list[str]:
    index = file.fields.get(f"tokenizer.ggml.{kind}_token_id")
    if index is None or not file.fields.get(f"tokenizer.ggml.add_{kind}_token", default):
        return []
    return [tokens[index]]
