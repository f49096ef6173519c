"""Log probabilities in the clients' shapes."""

from typing import Any

from loradock.engine.generation.choice import Token
from loradock.engine.generation.logprobs import TokenLogprobs
from loradock.engine.text.tokens import TokenBytes

Json = dict[str, Any]


def content(tokens: list[Token], names: TokenBytes) -> Json:
    """OpenAI's chat shape."""
    return {"content": [_entry(t.logprobs, names) for t in tokens if t.logprobs], "refusal": None}


def lists(tokens: list[Token], names: TokenBytes) -> Json:
    """Together's shape: parallel lists."""
    return {
        "tokens": [names.text(token.id) for token in tokens],
        "token_logprobs": [token.logprobs.logprob if token.logprobs else None for token in tokens],
        "token_ids": [token.id for token in tokens],
        "top_logprobs": [_top(token.logprobs, names) for token in tokens],
    }


def legacy(tokens: list[Token], names: TokenBytes, offset: int) -> Json:
    """OpenAI's completions shape; `offset` is where the first token's text begins."""
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(names.text(token.id))
    shape = lists(tokens, names)
    del shape["token_ids"]
    return {**shape, "tokens": [_name(token.id, names) for token in tokens], "text_offset": offsets}


def _entry(logprobs: TokenLogprobs, names: TokenBytes) -> Json:
    top = [_token(token, logprob, names) for token, logprob in logprobs.top]
    return {**_token(logprobs.token, logprobs.logprob, names), "top_logprobs": top}


def _token(token: int, logprob: float, names: TokenBytes) -> Json:
    return {"token": names.text(token), "logprob": logprob, "bytes": list(names[token])}


def _top(logprobs: TokenLogprobs | None, names: TokenBytes) -> dict[str, float] | None:
    """The likeliest tokens, and the chosen one if it is not among them."""
    if logprobs is None or not logprobs.top:
        return None
    ranked = logprobs.top
    if logprobs.token not in [token for token, _ in ranked]:
        ranked = [*ranked, (logprobs.token, logprobs.logprob)]
    return {_name(token, names): logprob for token, logprob in ranked}


def _name(token: int, names: TokenBytes) -> str:
    """OpenAI writes tokens that are no whole characters as `bytes:\\xe2\\x80`, lest different ones look alike."""
    try:
        return names[token].decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in names[token])
