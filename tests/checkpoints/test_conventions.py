import json

import pytest
from transformers import PreTrainedTokenizerFast

from loradock.checkpoints.conventions import Conventions, read_conventions
from loradock.types.errors import BadRequest


@pytest.fixture
def folder(tmp_path):
    def write(**files):
        for name, content in files.items():
            file = tmp_path / name.replace("__", ".")
            file.parent.mkdir(exist_ok=True, parents=True)
            file.write_text(content if isinstance(content, str) else json.dumps(content))
        return tmp_path

    return write


def test_a_folder_without_such_files_says_nothing(tmp_path):
    assert read_conventions(tmp_path) == Conventions()


@pytest.mark.parametrize(
    ("files", "ids"),
    [
        ({"generation_config__json": {"eos_token_id": [2, 0]}}, {0, 2}),
        ({"generation_config__json": {"eos_token_id": 2}, "config__json": {"eos_token_id": 0}}, {0, 2}),
        ({"config__json": {"eos_token_id": [7]}}, {7}),
        ({"config__json": {"eos_token_id": None}}, set()),
        ({"config__json": {"eos_token_id": -1}}, set()),
        ({"config__json": {"eos_token_id": "2"}}, set()),
    ],
)
def test_every_id_that_any_file_calls_an_end(folder, files, ids):
    assert read_conventions(folder(**files)).end_ids == ids


@pytest.mark.parametrize("eos", ["<end>", {"content": "<end>", "special": True}])
@pytest.mark.parametrize("file", ["tokenizer_config__json", "special_tokens_map__json"])
def test_the_tokenizers_end_is_known_by_its_text(folder, file, eos):
    found = read_conventions(folder(**{file: {"eos_token": eos}}))
    assert (found.end_texts, found.eos_token) == ({"<end>"}, "<end>")


@pytest.mark.parametrize(
    "files",
    [
        {"chat_template__jinja": "T"},
        {"chat_template__json": {"chat_template": "T"}},
        {"tokenizer_config__json": {"chat_template": "T"}},
        {"tokenizer_config__json": {"chat_template": [{"name": "default", "template": "T"}]}},
        {"tokenizer_config__json": {"chat_template": [{"name": "mine", "template": "T"}]}},
        {"tokenizer_config__json": {"chat_template": "another"}, "chat_template__jinja": "T"},
    ],
)
def test_a_template_wherever_training_tools_put_it(folder, files):
    assert read_conventions(folder(**files)).template() == "T"


def test_a_template_for_tools_is_taken_where_there_are_tools(folder):
    named = [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "U"}]
    found = read_conventions(folder(tokenizer_config__json={"chat_template": named}))
    assert (found.template(), found.template(tools=True)) == ("D", "U")


def test_templates_as_transformers_saves_them(tmp_path):
    """Its own writer, with one template and with several."""
    from tokenizers import Tokenizer, models

    words = Tokenizer(models.WordLevel({"a": 0, "</s>": 1}, unk_token="a"))
    for number, template in enumerate(("T", {"default": "T", "tool_use": "U"})):
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", chat_template=template)
        tokenizer.save_pretrained(tmp_path / str(number))
        found = read_conventions(tmp_path / str(number))
        assert (found.template(), found.eos_token) == ("T", "</s>")
    assert found.template(tools=True) == "U"


@pytest.mark.parametrize("content", ["{", "[1]", "[" * 100_000])
def test_what_is_no_json_object_is_named(folder, content):
    with pytest.raises(BadRequest, match=r"tokenizer_config\.json"):
        read_conventions(folder(tokenizer_config__json=content))
