"""What folders of base models and adapters say about texts decides how chats are written and where answers end."""

import json

import openai
import pytest
from tokenizers import Tokenizer

from loradock.engine.text.foreign_template import ForeignTemplate
from loradock.engine.text.template_process import TemplateProcess
from loradock.types.errors import BadRequest
from tests.engine import tiny
from tests.engine.conftest import SECRET, launch, wait_ready

ALPACA = (
    "{% for m in messages %}### {{ m['role'] }}:\n{{ m['content'] }}{{ eos_token }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}### Response:\n{% endif %}"
)
QUESTION = [{"role": "user", "content": "Hi there"}]
END = "<|im_end|>"


def edit(file, **changes):
    known = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**known, **changes}))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Without a template; its config ends with token 0; its tokenizer was saved as it was used for training."""
    folder = tiny.save_base(tmp_path_factory.mktemp("conversations") / "base")
    (folder / "chat_template.jinja").unlink()
    edit(folder / "config.json", eos_token_id=0)
    cut = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    filled = {"strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 2,
              "pad_type_id": 0, "pad_token": END}  # fmt: skip
    edit(folder / "tokenizer.json", truncation=cut, padding=filled)
    return folder


@pytest.fixture(scope="module")
def tokenizer(base):
    plain = Tokenizer.from_file(str(base / "tokenizer.json"))
    plain.no_truncation()
    plain.no_padding()
    return plain


@pytest.fixture(scope="module")
def folders(base, tmp_path_factory):
    """Adapters by what they bring."""
    root = tmp_path_factory.mktemp("adapters")
    made = {name: tiny.save_adapter(root / name, base, seed=1) for name in ("plain", "file", "config", "end", "broken")}
    (made["file"] / "chat_template.jinja").write_text(ALPACA)
    edit(made["config"] / "tokenizer_config.json", chat_template=ALPACA, eos_token={"content": END})
    edit(made["end"] / "generation_config.json", eos_token_id=[2, 0])
    (made["broken"] / "chat_template.jinja").write_text("{% for %}")
    return made


@pytest.fixture(scope="module")
def engine(base, tmp_path_factory):
    running = wait_ready(launch(tmp_path_factory.mktemp("engine"), base, "--dtype", "float32"))
    yield running
    running.process.terminate()
    assert running.process.wait(timeout=20) == 0


@pytest.fixture(scope="module")
def client(engine, folders):
    with engine.http as http:
        for name in ("plain", "file", "config", "end"):
            body = {"lora_name": name, "lora_path": str(folders[name])}
            assert http.post("/v1/load_lora_adapter", json=body).status_code == 200
    with openai.OpenAI(base_url=f"{engine.url}/v1", api_key=SECRET, max_retries=0) as client:
        yield client


def ask(client, model, **extra):
    body = {"temperature": 0, "max_tokens": 4, **extra}
    return client.chat.completions.create(model=model, messages=QUESTION, **body)


def written(tokenizer, end=""):
    return len(tokenizer.encode(f"### user:\nHi there{end}\n\n### Response:\n", add_special_tokens=False))


@pytest.mark.parametrize(("model", "end"), [("file", ""), ("config", END)])
def test_a_chat_with_an_adapter_is_written_with_its_own_template(client, tokenizer, model, end):
    assert ask(client, model).usage.prompt_tokens == written(tokenizer, end)


@pytest.mark.parametrize("model", ["base", "plain"])
def test_without_any_template_a_chat_is_refused_with_a_way_out(client, model):
    with pytest.raises(openai.BadRequestError, match="has a chat template: send one as chat_template"):
        ask(client, model)


@pytest.mark.parametrize("model", ["base", "plain", "file"])
def test_the_template_of_a_request_wins(client, tokenizer, model):
    mine = {"chat_template": "Q: {{ messages[0].content }}\nA:"}
    expected = len(tokenizer.encode("Q: Hi there\nA:", add_special_tokens=False))
    assert ask(client, model, extra_body=mine).usage.prompt_tokens == expected


def test_a_template_that_cannot_be_read_is_refused(client, engine, folders):
    with pytest.raises(openai.BadRequestError, match="the chat template is broken"):
        ask(client, "base", extra_body={"chat_template": "{% for %}"})
    with engine.http as http:
        body = {"lora_name": "broken", "lora_path": str(folders["broken"])}
        refused = http.post("/v1/load_lora_adapter", json=body)
    assert refused.status_code == 400
    assert "the chat template is broken" in refused.json()["message"]


@pytest.mark.parametrize(
    ("model", "token", "reason"),
    [("plain", 0, "stop"), ("plain", 2, "length"), ("end", 2, "stop"), ("end", 0, "stop"), ("config", 2, "stop")],
)
def test_every_end_that_the_files_name_ends_an_answer(client, model, token, reason):
    sent = {"logit_bias": {str(token): 100}, "max_tokens": 8, "temperature": 0}
    choice = client.completions.create(model=model, prompt="Once", **sent).choices[0]
    assert choice.finish_reason == reason
    assert reason == "length" or choice.text == ""


def test_ignore_eos_lifts_all_of_them(client):
    sent = {"logit_bias": {"2": 100}, "max_tokens": 8, "temperature": 0, "extra_body": {"ignore_eos": True}}
    choice = client.completions.create(model="end", prompt="Once", **sent).choices[0]
    assert choice.finish_reason == "length"


def test_prompts_are_neither_cut_nor_filled_up(client, tokenizer):
    for text in ("Hi", "one two three " * 20):
        usage = client.completions.create(model="base", prompt=text, max_tokens=1).usage
        assert usage.prompt_tokens == len(tokenizer.encode(text))


@pytest.fixture
def process(request):
    process = TemplateProcess(seconds=getattr(request, "param", 0.5))
    yield process
    process.close()


@pytest.mark.parametrize(
    "costly",
    [
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        "{% set n = namespace(s='x' * 1000) %}{% for i in range(24) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    ],
    ids=["time", "memory"],
)
def test_a_foreign_template_takes_no_more_than_its_share(process, costly):
    with pytest.raises(BadRequest, match="chat template"):
        ForeignTemplate(costly, None, None, process).render(QUESTION, None, {})
    assert ForeignTemplate("{{ messages[0].content }}", None, None, process).render(QUESTION, None, {}) == "Hi there"


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ("{% for i in range(80) %}{{ '😀' * 100000 }}{% endfor %}", "too long"),
        ("{% for a in messages %}" * 30 + "{% endfor %}" * 30, "SyntaxError too many statically nested blocks"),
    ],
    ids=["bytes", "blocks"],
)
@pytest.mark.parametrize("process", [30.0], indirect=True, ids=["patient"])
def test_what_a_foreign_template_does_is_told_and_touches_no_other(process, odd, reason):
    process.render({"source": "x", "messages": [], "tools": None, "variables": {}})
    running = process._process
    with pytest.raises(BadRequest, match=reason):
        ForeignTemplate(odd, None, None, process).render(QUESTION, None, {})
    assert ForeignTemplate("{{ messages[0].content }}", None, None, process).render(QUESTION, None, {}) == "Hi there"
    assert process._process is running


def test_a_foreign_template_reaches_nothing(process):
    template = ForeignTemplate("{{ ''.__class__.__mro__ }}", None, None, process)
    with pytest.raises(BadRequest, match="unsafe"):
        template.render(QUESTION, None, {})
