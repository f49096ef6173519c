import json

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from loradock.engine.requests.messages import read_messages
from loradock.engine.text.chat import ChatTemplate
from loradock.types.errors import BadRequest
from tests.tokenizers import CHATTING, save_tokenizer

ASK = [{"role": "user", "content": "hi"}]


def render(source, messages=ASK, tools=(), **kwargs):
    return ChatTemplate(source, "<s>", "</s>").render(messages, list(tools), kwargs)


def test_templates_see_what_transformers_gives_them():
    assert render("{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}{{ eos_token }}") == "<s>hi</s>"
    assert render("{% if add_generation_prompt %}go{% endif %}") == "go"
    assert render("{{ {'a': 'é<'} | tojson(indent=1) }}") == '{\n "a": "é<"\n}'
    assert render("{% generation %}x{% endgeneration %}") == "x"
    assert render("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}") == "01"
    assert len(render("{{ strftime_now('%Y') }}")) == 4
    assert render("{{ mood }}", mood="glad") == "glad"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[0].content + 1 }}", "str"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ 1 / 0 }}", "division"),
    ],
)
def test_a_failing_template_is_a_bad_request_with_its_reason(source, reason):
    with pytest.raises(BadRequest, match=reason):
        render(source)


def test_a_broken_template_is_refused_at_once():
    with pytest.raises(BadRequest, match="chat template is broken"):
        ChatTemplate("{% for %}", None, None)


@pytest.mark.parametrize(
    ("source", "shows"),
    [
        ("{{ messages }}", False),
        ("{{ tools }}", True),
        ("{% if tools %}<tool_call>{% endif %}", False),
        ("{% set tools = tools or none %}{% for t in tools %}{{ t.function.name }}{% endfor %}", True),
        ("{{ raise_exception('no') }}", False),
    ],
)
def test_whether_a_template_shows_tools_is_tried(source, shows):
    assert ChatTemplate(source, None, None).shows_tools is shows


TEXT = "The three colours are: red,"
CALL = {"id": "call12345", "type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def says(text, **fields):
    return {"role": "assistant", "content": text, **fields}


CONVERSATIONS = {
    "a new answer": (ASK, None, "opens"),
    "no new answer": (ASK, None, None),
    "no tools": (ASK, [], "opens"),
    "continued": ([*ASK, says(TEXT)], None, "continues"),
    "continued after blanks": ([*ASK, says(f"{TEXT}  ")], None, "continues"),
    "continued after line breaks": ([*ASK, says(f"{TEXT}\n\n")], None, "continues"),
    "continued from nothing": ([*ASK, says("")], None, "continues"),
    "continued after reasoning": ([*ASK, says(TEXT, reasoning="hm")], None, "continues"),
    "continued after one who said the same": ([says(TEXT), *ASK, says(TEXT)], None, "continues"),
    "reasoning": ([*ASK, says("", reasoning="hm", tool_calls=[CALL])], [TOOL], "opens"),
    "thinking": ([*ASK, says("", thinking="hm", tool_calls=[CALL])], [TOOL], "opens"),
    "reasoning_content": ([*ASK, says("so", reasoning_content="hm", tool_calls=[CALL])], [TOOL], "opens"),
}


@pytest.fixture(scope="module", params=CHATTING)
def template(request, tmp_path_factory):
    """A family's real template, as we render it and as transformers does."""
    config = json.loads(
        (save_tokenizer(tmp_path_factory.mktemp("t"), request.param) / "tokenizer_config.json").read_text()
    )
    source = config["chat_template"]
    bos, eos = (
        token["content"] if isinstance(token, dict) else token for token in map(config.get, ("bos_token", "eos_token"))
    )
    words = Tokenizer(models.WordLevel({"": 0}, unk_token=""))
    reference = PreTrainedTokenizerFast(tokenizer_object=words, bos_token=bos, eos_token=eos, chat_template=source)
    return ChatTemplate(source, bos, eos), reference


@pytest.mark.parametrize("kind", CONVERSATIONS)
def test_real_templates_are_rendered_as_transformers_does(template, kind):
    messages, tools, end = CONVERSATIONS[kind]
    ours, reference = template

    def theirs():
        ends = {"add_generation_prompt": end == "opens", "continue_final_message": end == "continues"}
        return reference.apply_chat_template(messages, tools=tools, tokenize=False, **ends)

    def rendered():
        read = read_messages({"messages": messages})
        return ours.render(read, tools, {}, opens=end == "opens", continues=end == "continues")

    try:
        expected = theirs()
    except Exception:  # some templates want roles to alternate, or know no tools
        with pytest.raises(BadRequest):
            rendered()
        return
    assert rendered() == expected
    if end == "continues":
        assert expected.rstrip().endswith(messages[-1]["content"].rstrip())


def test_a_message_that_the_template_changes_cannot_be_continued():
    template = ChatTemplate("{% for m in messages %}{{ m.content | upper }}{% endfor %}", None, None)
    with pytest.raises(BadRequest, match="continue_final_message") as caught:
        template.render([*ASK, says("so")], None, {}, opens=False, continues=True)
    assert caught.value.param == "continue_final_message"


def test_documents_need_a_place_in_the_template():
    assert render("{% for d in documents %}{{ d.text }}{% endfor %}", documents=[{"text": "x"}]) == "x"
    with pytest.raises(BadRequest, match="no place for documents"):
        render("{{ messages[0].content }}", documents=[{"text": "x"}])
