"""Vocabularies as GGUF files hold them give the tokens of the families' own tokenizer.json."""

import json

import pytest
from gguf import GGUFWriter
from tokenizers import Tokenizer

from loradock.checkpoints.gguf.gguf_file import GgufFile
from loradock.engine.text.gguf_tokenizer import gguf_tokenizer
from loradock.types.errors import BadRequest
from tests.engine.test_gguf import TEXTS
from tests.tokenizers import save_tokenizer

KINDS = {
    "llama3": ("gpt2", "llama-bpe"),
    "mistral": ("gpt2", "tekken"),
    "qwen3": ("gpt2", "qwen2"),
    "llama2": ("llama", None),
}
BLANK = "\u2581"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6


def write_vocabulary(file, source: dict, model: str, pre: str | None, **more):
    """A tokenizer.json as llama.cpp's converter writes its vocabulary."""
    vocabulary = dict(source["model"]["vocab"])
    added = {token["content"]: token for token in source["added_tokens"]}
    vocabulary |= {content: token["id"] for content, token in added.items()}
    tokens = [token for token, _ in sorted(vocabulary.items(), key=lambda one: one[1])]

    def kind(token):
        if token == "<unk>":
            return UNKNOWN
        if token in added:
            return CONTROL if added[token]["special"] else USER_DEFINED
        return BYTE if model == "llama" and token.startswith("<0x") else NORMAL

    writer = GGUFWriter(file, "llama")
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_types([kind(token) for token in tokens])
    writer.add_bos_token_id(vocabulary.get("<s>", vocabulary.get("<|begin_of_text|>", 0)))
    if pre:
        writer.add_tokenizer_pre(pre)
        pairs = source["model"]["merges"]
        writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in pairs])
    else:  # as SentencePiece's trainer leaves them: each piece is worth less than those before, runs of blanks least
        ranks = [1e9 if set(token) == {BLANK} else max(0, index - 258) for index, token in enumerate(tokens)]
        writer.add_token_scores([-float(rank) for rank in ranks])
    for key, value in more.items():
        writer.add_bool(f"tokenizer.ggml.{key}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory):
    """(the family's tokenizer, the same out of a GGUF file)."""
    folder = save_tokenizer(tmp_path_factory.mktemp("vocabularies"), request.param)
    source = json.loads((folder / "tokenizer.json").read_text())
    file = write_vocabulary(folder / "m.gguf", source, *KINDS[request.param])
    return Tokenizer.from_file(str(folder / "tokenizer.json")), gguf_tokenizer(GgufFile(file))


@pytest.mark.parametrize("special", [False, True])
def test_the_same_tokens(pair, special):
    reference, ours = pair
    for text in TEXTS:
        expected = reference.encode(text, add_special_tokens=special).ids
        assert ours.encode(text, add_special_tokens=special).ids == expected, text


def test_the_same_text(pair):
    reference, ours = pair
    for text in TEXTS:
        ids = reference.encode(text).ids
        assert ours.decode(ids) == reference.decode(ids)


def test_the_file_may_say_that_nothing_begins_a_text(tmp_path):
    folder = save_tokenizer(tmp_path / "t", "llama3")
    source = json.loads((folder / "tokenizer.json").read_text())
    file = write_vocabulary(folder / "m.gguf", source, "gpt2", "llama-bpe", add_bos_token=False)
    assert 128000 not in gguf_tokenizer(GgufFile(file)).encode("Hi").ids


@pytest.mark.parametrize(("model", "pre", "named"), [("gpt2", "brand-new", "'brand-new'"), ("t5", "t5", "'t5'")])
def test_what_is_not_known_is_named(tmp_path, model, pre, named):
    folder = save_tokenizer(tmp_path / "t", "llama3")
    source = json.loads((folder / "tokenizer.json").read_text())
    file = write_vocabulary(folder / "m.gguf", source, model, pre)
    with pytest.raises(BadRequest, match=named) as refused:
        gguf_tokenizer(GgufFile(file))
    assert str(tmp_path) not in refused.value.message
