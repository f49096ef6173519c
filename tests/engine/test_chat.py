import pytest

from loradock.engine.chat import ChatTemplate
from loradock.types.errors import BadRequest

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
    ("source", "takes"),
    [("{{ messages }}", False), ("{{ tools }}", False), ("{% if tools %}<tool_call>{% endif %}", True)],
)
def test_only_templates_with_a_readable_call_form_take_tools(source, takes):
    assert ChatTemplate(source, None, None).takes_tools is takes
