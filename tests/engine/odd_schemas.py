"""JSON schemas from ordinary to odd, as hypothesis makes them. References may point at what is not there."""

from hypothesis import strategies as st

MARKS = [
    "<tool_call>",
    "</tool_call>",
    "<|im_end|>",
    "<|eot_id|>",
    "[TOOL_CALLS]",
    "[INST]",
    "<s>",
    "</s>",
    "<bos>",
    "<think>",
    "<|python_tag|>",
]
WORDS = ["Hi", "What is the weather in Lyon?", " ", "\n", "e\u0301 ﬁ", "日本語 👍🏽", "a\x00b", "{", '{"a": 1}', *MARKS]
PATTERNS = ["^[a-z]{2,5}$", "^\\d+$", "^score$", "^(a|b)$", ".*", "\\p{L}+", "^[\\w.-]+\\/$"]
ODD_PATTERNS = ["^(?!x)a", "(a)\\1", "(a", "^(a{200}){200}$", "$a^"]
FORMATS = [
    "date",
    "date-time",
    "email",
    "uuid",
    "uuid4",
    "path",
    "binary",
    "int32",
    "password",
    "uri-reference",
    "ipv4",
]
REFERENCES = [
    "#/$defs/Thing",
    "#/$defs/Thing",
    "#/$defs/Thing",
    "#",
    "#/properties/a",
    "#/$defs/Nobody",
    "https://a.b/c",
    "#thing",
]
NAMES = ["a", "b", "score", "city", "<tool_call>", "é", "$ref"]


def mostly(usual, odd, share=8):
    """The odd one once in so many times."""
    return st.sampled_from([False] * (share - 1) + [True]).flatmap(lambda dice: odd if dice else usual)


def one(*strategies):
    """Each as often as any other, where hypothesis counts what one_of has inside."""
    return st.sampled_from(strategies).flatmap(lambda strategy: strategy)


def fields(always=None, /, **optional):
    return st.fixed_dictionaries(always or {}, optional=optional)


def of_type(*names, **optional):
    return fields({"type": st.sampled_from(names)}, **optional)


text = st.one_of(st.sampled_from(WORDS), st.text(max_size=20), st.sampled_from(WORDS).map(lambda word: word * 20))
number = mostly(st.integers(-5, 40), st.sampled_from([0.5, 1e-9, 1e30, -1e-3, 2**53, 10**25]))
scalar = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(-1e9, 1e9), text)
anything = st.recursive(
    scalar, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)), max_leaves=6
)
names = st.sampled_from(NAMES)
leaf = st.one_of(
    of_type("null", "boolean", "integer", "number", "string"),
    fields({"const": anything}),
    fields({"enum": st.lists(scalar, min_size=1, max_size=3)}),
    fields({"$ref": st.sampled_from(REFERENCES)}),
    of_type(
        "string",
        pattern=mostly(st.sampled_from(PATTERNS), st.sampled_from(ODD_PATTERNS)),
        format=st.sampled_from(FORMATS),
        maxLength=st.integers(4, 9),
    ),
    of_type("string", minLength=st.integers(0, 4), maxLength=st.integers(2, 9)),
    of_type("integer", "number", minimum=number, maximum=number, exclusiveMinimum=number, multipleOf=number),
)


def _branch(inner):
    some = st.lists(inner, min_size=1, max_size=3)
    named = st.dictionaries(names, inner, min_size=1, max_size=3)
    plain = fields({"type": st.just("object"), "properties": named}, required=st.lists(names, max_size=2))
    return st.one_of(
        plain,
        plain,
        fields(
            {"type": st.just("object")},
            properties=named,
            additionalProperties=st.one_of(st.booleans(), inner),
            patternProperties=st.dictionaries(st.sampled_from(PATTERNS), inner, max_size=1),
            propertyNames=st.one_of(of_type("string"), fields({"enum": st.lists(names, min_size=1)})),
            unevaluatedProperties=st.booleans(),
            minProperties=st.integers(0, 2),
        ),
        of_type(
            "array", items=inner, minItems=st.integers(0, 2), maxItems=st.integers(1, 3), uniqueItems=st.just(False)
        ),
        of_type("array", prefixItems=some, items=st.booleans()),
        fields({"anyOf": some}),
        fields({"oneOf": some}),
        fields({"allOf": some}),
        mostly(
            inner, fields(**{"not": inner, "if": inner, "then": inner, "contains": inner, "uniqueItems": st.just(True)})
        ),
    )


_parts = st.recursive(leaf, _branch, max_leaves=5)
_objects = st.builds(
    lambda properties, thing: {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        "$defs": {"Thing": thing},
    },
    st.dictionaries(names, _parts, min_size=1, max_size=3),
    _parts,
)
schemas = mostly(st.one_of(_objects, _objects, _parts), st.dictionaries(text, anything, max_size=3))
