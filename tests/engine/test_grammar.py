"""Constrained decoding over the real vocabularies of the families: whatever is allowed can be written to its end."""

import functools
import json
import random
import re

import jsonschema
import numpy as np
import pytest
from tokenizers import Tokenizer

from loradock.engine.errors import Unfollowed
from loradock.engine.requests.constraint import Constraint
from loradock.engine.structured_output.grammar import Grammars
from loradock.engine.text.chat import ChatTemplate
from loradock.engine.text.detokenizer import Detokenizer
from loradock.engine.text.tokens import TokenBytes
from loradock.engine.tool_calls.tool_forms import HermesForm, LlamaForm, MistralForm
from loradock.engine.tool_calls.tools import ToolCallReader
from loradock.types.errors import BadRequest
from tests.tokenizers import FAMILIES, save_tokenizer

ENDS = frozenset({2})
VOCABULARIES = tuple(family for family in FAMILIES if family != "qwen2.5")  # which is as qwen3's
MARKS = "<tool_call>é<|im_end|>e\u0301 [INST]</s> x  y<start_of_turn>\u2581z\u00a0ﬁ\n\t<|eot_id|>"
"""A text with special tokens, added tokens, and letters that normalizers would write otherwise."""
CITY = {
    "type": "object",
    "properties": {"zip": {"type": "boolean"}},
    "required": ["zip"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory):
    @functools.cache
    def made(family):
        folder = save_tokenizer(tmp_path_factory.mktemp("vocabularies") / family, family)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokens = TokenBytes(tokenizer)
        return Grammars(tokenizer, tokens, ENDS, tokenizer.get_vocab_size()), tokens

    return made


def write(grammars, tokens, constraint, seed=0, most=400):
    """A random text of the grammar, in no hurry to say much."""
    grammar, dice, said = grammars.compile(constraint), random.Random(seed), []
    shown = tokens.special_among(constraint.form.marks) if constraint.form else frozenset()
    while not grammar.finished:
        logits = np.zeros(len(tokens), np.float32)
        grammar.constrain(logits)
        allowed = np.flatnonzero(np.isfinite(logits)).tolist()
        closing = [t for t in allowed if tokens[t].strip() in (b'"', b"}", b"]")] if len(said) > 30 else []
        said.append(dice.choice(closing or allowed))
        grammar.accept(said[-1])
        assert len(said) < most
    detokenizer = Detokenizer(tokens, shown=shown)
    return "".join(detokenizer.feed(token) for token in said) + detokenizer.flush()


def tool(name, parameters):
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


@pytest.mark.parametrize(
    "form",
    [HermesForm(), MistralForm(named=False), MistralForm(named=True), LlamaForm()],
    ids=["hermes", "mistral", "mistral named", "llama"],
)
@pytest.mark.parametrize("family", VOCABULARIES)
def test_a_forced_call_can_be_written_and_read_in_every_form_on_every_vocabulary(vocabularies, family, form):
    grammars, tokens = vocabularies(family)
    own = {
        "type": "object",
        "properties": {"say": {"const": MARKS}},
        "required": ["say"],
        "additionalProperties": False,
    }
    constraint = Constraint("tools", tools=(tool("first", own), tool('sec"öнd', own)), form=form)
    text = write(grammars, tokens, constraint)
    plain, calls = ToolCallReader(form, frozenset({"first", 'sec"öнd'})).feed(text, final=True)
    assert (plain, [json.loads(call.arguments) for call in calls]) == ("", [{"say": MARKS}])


@pytest.mark.parametrize(("family", "mark"), [("qwen3", "<tool_call>"), ("qwen2.5", "<tool_call>")])
def test_a_mark_that_is_a_token_is_written_as_that_token(vocabularies, family, mark):
    grammars, tokens = vocabularies(family)
    grammar = grammars.compile(Constraint("tools", tools=(tool("first", {}),), form=HermesForm()))
    logits = np.zeros(len(tokens), np.float32)
    grammar.constrain(logits)
    assert [tokens[t].decode() for t in np.flatnonzero(np.isfinite(logits)).tolist()] == [mark]


@pytest.mark.parametrize("family", VOCABULARIES)
def test_schemas_are_followed_to_a_valid_end(vocabularies, family):
    grammars, tokens = vocabularies(family)
    schema = {
        "type": "object",
        "properties": {
            MARKS: {"enum": [MARKS, "<s>", "e\u0301"]},
            "score": {"type": "integer"},
            "city": {"$ref": "#/$defs/City"},
        },
        "patternProperties": {"^score$": {"minimum": 10, "maximum": 20}},
        "required": [MARKS, "score", "city"],
        "additionalProperties": False,
        "$defs": {"City": CITY},
    }
    for seed in range(2):
        jsonschema.validate(json.loads(write(grammars, tokens, Constraint("x", schema=schema), seed)), schema)


def test_references_of_a_tool_mean_its_own_parameters(vocabularies):
    grammars, tokens = vocabularies("smollm2")
    nested = {
        "type": "object",
        "properties": {"city": {"$ref": "#/$defs/City"}, "next": {"$ref": "#"}, "same": {"$ref": "#/properties/city"}},
        "required": ["city", "same"],
        "additionalProperties": False,
        "$defs": {"City": CITY},
    }
    other = {**nested, "$defs": {"City": {"const": "another city"}}}
    constraint = Constraint("tools", tools=(tool("one", nested), tool("two", other)), form=LlamaForm())
    for seed in range(6):
        call = json.loads(write(grammars, tokens, constraint, seed))
        jsonschema.validate(call["parameters"], nested if call["name"] == "one" else other)


DEEP = functools.reduce(lambda inner, _: {"type": "array", "items": inner}, range(5000), {"type": "null"})


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (DEEP, ["nested too deeply"]),
        ({"type": "string", "pattern": "^(?!x)a"}, ["'it'", "looks ahead"]),
        ({"type": "string", "pattern": "(a)\\1"}, ["'it'", "refers back"]),
        ({"type": "string", "pattern": "(a"}, ["'it'", "unclosed group"]),
        ({"type": "string", "pattern": "^(a{1000}){1000}$"}, ["'it'", "too complex"]),
        ({"type": "string", "minLength": 5, "maxLength": 2}, ["'it'", "unsatisfiable"]),
        ({"type": "integer", "minimum": 10**30}, ["'it'", "bounds"]),
        ({"type": "object", "properties": {"a": {}}, "maxProperties": 1}, ["'it'", "maxProperties"]),
        ({"patternProperties": {"^a": {"type": "null"}, "b$": {"type": "string"}}}, ["'it'", "patternProperties"]),
        ({"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(3000)}}, ["too large"]),
        ({"type": "string", "format": "email", "minLength": 900}, ["'it'", "too complex"]),
    ],
)
def test_a_schema_that_cannot_be_followed_is_refused_before_the_first_token(vocabularies, schema, words):
    grammars, _ = vocabularies("smollm2")
    whole = {"type": "object", "properties": {"it": schema}, "required": ["it"]}
    for constraint in (
        Constraint("response_format", schema=whole),
        Constraint("tools", tools=(tool("one", whole),), form=HermesForm()),
    ):
        with pytest.raises(BadRequest) as caught:
            grammars.compile(constraint)
        message = caught.value.message
        assert caught.value.param == constraint.param
        assert [word for word in [constraint.param, *words] if word not in message] == []
        assert not [word for word in ("llg", "lark", "%json", "Parser", "coerce", "at 1(") if word in message]


def test_an_alternative_with_a_pattern_that_cannot_be_followed_is_left_out(vocabularies):
    grammars, tokens = vocabularies("smollm2")
    decimal = {"anyOf": [{"type": "boolean"}, {"type": "string", "pattern": "^(?!^[-+.]*$)[+-]?0*\\d*\\.?\\d*$"}]}
    assert json.loads(write(grammars, tokens, Constraint("x", schema=decimal))) in (True, False)


@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        (Constraint("guided_regex", regex="(?!a)b"), ["the pattern looks ahead"]),
        (Constraint("guided_regex", regex="(a"), ["unclosed group"]),
        (Constraint("guided_grammar", grammar="start: foo"), ["unknown name", "foo"]),
        (Constraint("guided_grammar", grammar="root ::= ("), ["cannot be read"]),
        (Constraint("guided_grammar", grammar='start: "a" start'), ["too large or too complex"]),
        (Constraint("guided_grammar", grammar="root ::= " + '"a" ' * 200_000), ["too large", "512 KiB"]),
        (Constraint("guided_choice", regex="lorem ipsum " * 50_000), ["too large", "512 KiB"]),
        (Constraint("guided_json", schema={"enum": ["x" * 10] * 60_000}), ["too large", "512 KiB"]),
    ],
)
def test_a_grammar_that_cannot_be_followed_is_refused_with_its_place(vocabularies, constraint, words):
    grammars, _ = vocabularies("smollm2")
    with pytest.raises(BadRequest) as caught:
        grammars.compile(constraint)
    assert [word for word in [constraint.param, *words] if word not in caught.value.message] == []


def test_the_callers_own_grammars_are_followed(vocabularies):
    grammars, tokens = vocabularies("qwen3")
    for constraint, texts in [
        (
            Constraint("guided_regex", regex="(a|<tool_call>){2}"),
            {"aa", "a<tool_call>", "<tool_call>a", 2 * "<tool_call>"},
        ),
        (Constraint("guided_grammar", grammar='root ::= "ja" | "nein"'), {"ja", "nein"}),
        (Constraint("guided_grammar", grammar='start: "ja" | "nein"'), {"ja", "nein"}),
        (
            Constraint("guided_grammar", grammar=r'root ::= "\u00e9\\u00e9" [\u0041\U0001F600]'),
            {"é\\u00e9A", "é\\u00e9😀"},
        ),
    ]:
        assert write(grammars, tokens, constraint) in texts


def test_a_failing_grammar_tells_no_more_than_that(vocabularies):
    grammars, _ = vocabularies("smollm2")
    grammar = grammars.compile(Constraint("response_format", schema={"const": "a"}))
    with pytest.raises(Unfollowed) as caught:
        grammar.accept(1000)
    assert caught.value.message == (
        "The answer cannot go on as response_format wants it: nothing can follow here. Simplify it, or send the"
        " request again."
    )


def test_a_grammar_that_was_compiled_before_starts_anew(vocabularies):
    grammars, tokens = vocabularies("smollm2")
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    texts = {write(grammars, tokens, Constraint("x", schema=schema), seed) for seed in range(4)}
    assert len(texts) > 1


def test_a_vocabulary_that_cannot_be_prepared_is_a_refusal():
    model = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    tokenizer = Tokenizer.from_str(json.dumps({"version": "1.0", "model": model, "added_tokens": []}))
    grammars = Grammars(tokenizer, TokenBytes(tokenizer), frozenset(), 1)
    with pytest.raises(BadRequest, match="response_format cannot be followed"):
        grammars.compile(Constraint("response_format", schema={"const": "b"}))


@pytest.mark.parametrize(
    ("family", "form"),
    [
        ("qwen3", HermesForm),
        ("qwen2.5", HermesForm),
        ("llama3", LlamaForm),
        ("mistral", MistralForm),
        ("gemma3", None),
        ("smollm2", None),
    ],
)
def test_the_template_of_a_family_shows_tools_and_teaches_its_form_or_does_not(tmp_path, family, form):
    config = json.loads((save_tokenizer(tmp_path, family) / "tokenizer_config.json").read_text())
    template = ChatTemplate(config["chat_template"], "<s>", "</s>")
    assert template.shows_tools is (form is not None)
    assert form is None or isinstance(template.tool_form, form)


def test_calls_that_another_model_made_are_shown_to_mistral_s_template(tmp_path):
    config = json.loads((save_tokenizer(tmp_path, "mistral") / "tokenizer_config.json").read_text())
    template = ChatTemplate(config["chat_template"], "<s>", "</s>")
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Lyon"}}}

    def shown(name):
        asked = [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "", "tool_calls": [{**call, "id": name}]},
        ]
        return template.render([*asked, {"role": "tool", "content": "sun", "tool_call_id": name}], [], {})

    assert shown("abcdefghi").count("abcdefghi") == 2
    (made,) = set(re.findall(r'"(?:call_)?id": "(\w{9})"', shown("call_0123456789abcdef")))
    assert made not in shown("call_another")
