"""The tokenizer files of other families, as the engine reads them."""

import pytest
from tokenizers import Tokenizer

from loradock.checkpoints.base_config import read_architecture
from loradock.engine.text.detokenizer import Detokenizer
from loradock.engine.text.tokenizer import load_tokenizer
from loradock.engine.text.tokens import TokenBytes
from tests.tokenizers import FAMILIES, save_base

TEXT = "Let me see: naïve café, 日本語 👍🏽\n\tif a != b:\n  return 3.14"


@pytest.fixture(scope="module", params=FAMILIES)
def base(request, tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("models") / request.param, request.param)


def test_tokens_become_the_text_they_were_made_of(base):
    files = load_tokenizer(base, read_architecture(base))
    ids = files.tokenizer.encode(TEXT, add_special_tokens=False).ids
    assert Tokenizer.from_file(str(base / "tokenizer.json")).decode(ids) == TEXT
    detokenizer = Detokenizer(TokenBytes(files.tokenizer))
    read = "".join([detokenizer.feed(token) for token in ids]) + detokenizer.flush()
    assert read.removeprefix(" ") == TEXT  # SentencePiece puts a blank before the first word
