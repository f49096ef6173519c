"""Requests from ordinary to odd, as hypothesis makes them: chats, tools, schemas, completions, and what is none."""

import string

from hypothesis import strategies as st

from tests.engine.odd_schemas import ODD_PATTERNS, PATTERNS, anything, fields, mostly, one, schemas, text

some = st.lists(text, min_size=1, max_size=3)
identifier = mostly(st.text(string.ascii_lowercase + "_-", min_size=1, max_size=12), text.filter(len))

# Conversations.
_call = fields(
    {
        "id": identifier,
        "type": st.just("function"),
        "function": fields(
            {"name": identifier, "arguments": st.sampled_from(['{"city": "Lyon"}', "{}", "", "{", "[]"])}
        ),
    }
)
_content = st.one_of(text, st.lists(fields({"type": st.just("text"), "text": text}), min_size=1, max_size=2))
_user = fields({"role": st.just("user"), "content": _content})
_system = fields({"role": st.sampled_from(["system", "developer"]), "content": _content})
_assistant = fields(
    {"role": st.just("assistant"), "content": st.one_of(_content, st.none())},
    tool_calls=st.lists(_call, max_size=2),
    reasoning=text,
)
_tool = fields({"role": st.just("tool"), "content": _content, "tool_call_id": identifier})
_odd_message = st.one_of(
    fields({"role": text}, content=anything),
    fields({"role": st.just("user"), "content": st.just([{"type": "image_url", "image_url": {"url": "x"}}])}),
)
messages = st.one_of(
    st.lists(_user, min_size=1, max_size=1),
    st.tuples(_system, _user).map(list),
    st.tuples(_user, _assistant, _user).map(list),
    st.tuples(_user, _assistant, _tool).map(list),
    mostly(
        st.lists(st.one_of(_user, _assistant, _tool), min_size=1, max_size=4), st.lists(_odd_message, max_size=2), 3
    ),
)

# Tools and other constraints.
_function = fields({"name": identifier}, parameters=schemas, description=text, strict=st.booleans())
_tools = st.lists(fields({"type": st.just("function"), "function": _function}), min_size=1, max_size=3)


def _choice(offered, choice):
    named = {"type": "function", "function": {"name": offered[0]["function"]["name"]}}
    return {"tools": offered, "tool_choice": named if choice == "one" else choice}


GRAMMARS = ['start: "a" | "b"', 'root ::= "a" | "b"', "start: %json {}", "start: /a+/", 'start: <[2]> "x"']
ODD_GRAMMARS = ['start: "a" start', "start: (", "start: <|nobody|>", "root ::= (", "\x00"]
forced = st.builds(_choice, _tools, st.sampled_from(["auto", "required", "required", "one", "none"]))
constraints = st.one_of(
    schemas.map(lambda s: {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": s}}}),
    st.just({"response_format": {"type": "json_object"}}),
    schemas.map(lambda schema: {"guided_json": schema}),
    mostly(st.sampled_from(PATTERNS), st.sampled_from([*ODD_PATTERNS, "日本|😀"]), 4).map(
        lambda p: {"guided_regex": p}
    ),
    st.lists(text.filter(len), min_size=1, max_size=3).map(lambda texts: {"guided_choice": texts}),
    mostly(st.sampled_from(GRAMMARS), st.sampled_from(ODD_GRAMMARS), 4).map(lambda g: {"guided_grammar": g}),
)

# Settings: the extremes of what is allowed, and one that is not.
settings = fields(
    temperature=st.sampled_from([0, 1e-300, 1e-6, 0.7, 1, 2.0]),
    top_p=st.sampled_from([0, 1e-30, 0.5, 1]),
    top_k=st.sampled_from([-1, 0, 1, 50, 10_000_000]),
    min_p=st.sampled_from([0, 1e-30, 0.1, 1]),
    repetition_penalty=st.sampled_from([5e-324, 1e-30, 0.5, 1.3, 10]),
    presence_penalty=st.sampled_from([-2, 0, 2]),
    frequency_penalty=st.sampled_from([-2, 0, 2]),
    logit_bias=st.dictionaries(st.sampled_from(["0", "2", "99", "31999"]), st.sampled_from([-100, 0, 100]), max_size=4),
    seed=st.sampled_from([0, -1, 2**63 - 1, 2**64 - 1, -(2**63)]),
    n=st.sampled_from([1, 1, 2, 3]),
    stop=st.one_of(text.filter(len), st.lists(text.filter(len), max_size=3)),
    stop_token_ids=st.lists(st.sampled_from([0, 2, 31_999]), max_size=2),
    ignore_eos=st.booleans(),
    min_tokens=st.just(1),
    bad_words=st.lists(st.sampled_from(["the", "{", '"', "é"]), max_size=2),
    include_stop_str_in_output=st.booleans(),
    skip_special_tokens=st.booleans(),
    stream_options=st.just({"include_usage": True}),
    user=text,
    truncate_prompt_tokens=st.sampled_from([-1, 1, 40]),
)
_wrong = st.sampled_from(
    [
        *({"temperature": value} for value in (2.5, -1, "hot")),
        *({"n": value} for value in (0, 1.5, 10**30)),
        *({"max_tokens": value} for value in (0, 10**6, 10**30, "x")),
        *({"seed": value} for value in (2**64, 1.5)),
        *({"logit_bias": {key: 1}} for key in ("-1", "x", "99999999")),
        *({"stop": value} for value in ("", [""], 7, ["a"] * 99)),
        {"stop_token_ids": [99999999]},
        {"repetition_penalty": 0},
        {"model": "nobody"},
        {"user": "\ud800"},
        {"tools": [{"type": "search"}]},
        {"tool_choice": "any"},
        {"response_format": {"type": "xml"}},
    ]
)
_anywhere = st.dictionaries(
    st.sampled_from(["temperature", "messages", "tools", "response_format", "stop", "prompt", "model", "x"]),
    anything,
    min_size=1,
    max_size=2,
)
odd = mostly(st.just({}), st.one_of(_wrong, _anywhere), 6)
limits = fields({"max_tokens": st.sampled_from([1, 3, 8, 12, 24, 24, 60]), "stream": st.booleans()})
_plain = st.just({})
_chat_logprobs = st.one_of(_plain, fields({"logprobs": st.just(True)}, top_logprobs=st.sampled_from([0, 3, 20])))
_logprobs = st.one_of(_plain, fields({"logprobs": st.sampled_from([0, 1, 20])}, echo=st.booleans()))
_ids = st.lists(
    mostly(st.integers(0, 31_999), st.sampled_from([-1, 2**31, 2**70, 262_207]), 40), min_size=1, max_size=8
)
prompts = st.one_of(text.filter(len), some, _ids, st.lists(_ids, min_size=1, max_size=2))


def _request(path, *parts):
    return path, {key: value for part in ({"model": "base"}, *parts) for key, value in part.items()}


chats = st.builds(
    _request,
    st.just("/v1/chat/completions"),
    messages.map(lambda said: {"messages": said}),
    limits,
    one(_plain, forced, forced, constraints, constraints),
    one(_plain, settings),
    _chat_logprobs,
    odd,
)
completions = st.builds(
    _request,
    st.just("/v1/completions"),
    prompts.map(lambda prompt: {"prompt": prompt}),
    limits,
    one(_plain, constraints),
    one(_plain, settings),
    _logprobs,
    odd,
)
requests = st.tuples(one(chats, chats, chats, completions), st.sampled_from(["openai", "together"]))
"""((path, body), dialect)."""
