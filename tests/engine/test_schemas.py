"""Schemas of callers: what is followed, what means nothing, and what is refused with the property and the reason."""

import json
import re
import time

import jsonschema
import pytest

from loradock.engine.structured_output.schemas import Unfollowable, endings, prepared, preparing

CITY = {"type": "object", "properties": {"zip": {"type": "string"}}, "required": ["zip"]}
LOOP = {"$ref": "#/$defs/Loop"}


def ready(schema):
    return prepared(schema, lambda pattern, text: bool(re.search(pattern, text)))


def inside(schema, **more):
    return {"type": "object", "properties": {"it": schema}, "required": ["it"], **more}


def of(schema):
    """What becomes of a schema as a property."""
    return ready(inside(schema))["properties"]["it"]


@pytest.mark.parametrize(
    ("schema", "kept"),
    [
        ({"type": "array", "uniqueItems": False}, {"type": "array"}),
        ({"type": "object", "propertyNames": {"type": "string"}}, {"type": "object"}),
        ({"type": "object", "propertyNames": True}, {"type": "object"}),
        ({"type": "string", "format": "path"}, {"type": "string"}),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"type": "string", "description": "x", "x-order": 1, "examples": [{"not": 1}]}, {"type": "string"}),
        ({"type": "array", "contains": {}, "minContains": 0}, {"type": "array"}),
        ({"if": {"type": "string"}}, {}),
        ({"not": False}, {}),
        ({"type": "object", "dependentRequired": {}}, {"type": "object"}),
        ({"minimum": 10**400}, {"minimum": 10**400}),
        ({"minimum": 3, "exclusiveMinimum": True}, {"minimum": 3, "exclusiveMinimum": 3}),
        ({"type": "string", "maxLength": 3.0}, {"type": "string", "maxLength": 3}),
        ({"x-guidance": {"lenient": True}}, {}),
        (
            {"type": "array", "items": [{"type": "null"}], "additionalItems": False},
            {"type": "array", "prefixItems": [{"type": "null"}], "items": False},
        ),
        (
            {"type": "object", "properties": {}, "unevaluatedProperties": False},
            {"type": "object", "additionalProperties": False},
        ),
        (
            {"properties": {"a": {"minimum": 1}}, "patternProperties": {"^a$": {"maximum": 9}}},
            {"properties": {"a": {"allOf": [{"minimum": 1}, {"maximum": 9}]}}},
        ),
        (
            {"patternProperties": {"^(a|b)$": {"maximum": 9}}},
            {"properties": {"a": {"maximum": 9}, "b": {"maximum": 9}}},
        ),
        (
            {"propertyNames": {"enum": ["r", "g"]}, "additionalProperties": {"type": "null"}},
            {"properties": {"r": {"type": "null"}, "g": {"type": "null"}}, "additionalProperties": False},
        ),
        (
            {"propertyNames": {"pattern": "^x"}, "additionalProperties": {"type": "null"}},
            {"patternProperties": {"^x": {"type": "null"}}, "additionalProperties": False},
        ),
    ],
)
def test_what_asks_for_nothing_is_dropped_and_what_can_be_said_otherwise_is(schema, kept):
    assert of(schema) == kept


@pytest.mark.parametrize(
    ("names", "fitting", "other"),
    [
        ({"format": "uuid"}, "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
        ({"format": "uuid", "pattern": "^[0-9a-f-]{36}$"}, "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
        ({"format": "date"}, "2026-11-27", "2026-13-01"),
        ({"format": "time"}, "23:59:59.5Z", "24:00:00Z"),
        ({"format": "date-time"}, "2026-11-27T14:00:00+01:00", "2026-11-27"),
    ],
)
def test_names_of_a_format_are_held_to_its_pattern(names, fitting, other):
    made = of({"type": "object", "propertyNames": {"type": "string", **names}, "additionalProperties": {"minimum": 1}})
    jsonschema.validate({fitting: 1}, made)
    for wrong in ({other: 1}, {fitting: 0}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, made)


def test_a_uuid_of_a_version_is_one():
    pattern = of({"type": "string", "format": "uuid4"})["pattern"]
    assert re.search(pattern, "f47ac10b-58cc-4372-a567-0e02b2c3d479")
    assert not re.search(pattern, "f47ac10b-58cc-1372-a567-0e02b2c3d479")


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "array", "uniqueItems": True}, ["uniqueItems"]),
        ({"not": {"type": "string"}}, ["not"]),
        ({"if": {}, "then": {}}, ["if/then"]),
        ({"contains": {}}, ["contains"]),
        ({"dependentRequired": {"a": ["b"]}}, ["dependentRequired"]),
        ({"allOf": [{}], "unevaluatedProperties": False}, ["unevaluatedProperties"]),
        ({"propertyNames": {"format": "email"}}, ["propertyNames"]),
        ({"type": "any"}, ["type must be one of", "'any'"]),
        ({"type": "object", "required": True}, ["required must be an array"]),
        ({"$ref": "#/$defs/Nobody"}, ["$ref '#/$defs/Nobody' points at nothing"]),
        ({"$ref": "https://example.com/x"}, ["points at nothing"]),
        ({"$ref": 7}, ["$ref must be a string"]),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, ["oneOf may overlap", "anyOf"]),
        ({"anyOf": []}, ["anyOf must be an array"]),
        ({"properties": {"deep": 7}}, ["'it.deep'", "object, or true or false"]),
        ({"items": {"minLength": -1}}, ["'it[]'", "minLength"]),
        ({"multipleOf": 0}, ["multipleOf", "above 0"]),
        ({"pattern": 7}, ["pattern must be a string"]),
        ({"enum": "a"}, ["enum must be an array"]),
    ],
)
def test_what_cannot_be_followed_is_named_with_its_property(schema, words):
    with pytest.raises(Unfollowable) as caught:
        of(schema)
    assert [word for word in ["property 'it", *words] if word not in str(caught.value)] == []


def test_what_is_too_deep_or_too_large_is_refused():
    deep = {"type": "null"}
    for _ in range(5000):
        deep = {"type": "array", "items": deep}
    with pytest.raises(Unfollowable, match="nested"):
        ready(deep)
    with pytest.raises(Unfollowable, match="too large"):
        ready({"anyOf": [{"type": "null"}] * 30_000})


def test_patterns_may_not_take_for_ever(monkeypatch):
    monkeypatch.setattr(preparing, "SECONDS", 0.5)
    slow = {"anyOf": [{"type": "string", "pattern": f"^{i}"} for i in range(1000)]}
    with pytest.raises(Unfollowable, match="patterns"):
        prepared(slow, lambda pattern, text: bool(time.sleep(0.05)))


def test_an_alternative_that_cannot_be_followed_is_left_out():
    assert of({"anyOf": [{"type": "number"}, {"not": {}}]}) == {"anyOf": [{"type": "number"}]}
    with pytest.raises(Unfollowable, match="not"):
        of({"anyOf": [{"not": {}}, {"contains": {}}]})
    bad = {"anyOf": [{"$ref": "#/$defs/Bad"}, {"type": "null"}]}
    whole = ready(inside(bad, **{"$defs": {"Bad": {"properties": {"x": {"not": {}}}}}}))
    assert whole["properties"]["it"] == {"anyOf": [False, {"type": "null"}]} or whole["properties"]["it"] == {
        "anyOf": [{"type": "null"}]
    }


@pytest.mark.parametrize(
    ("first", "second", "apart"),
    [
        ({"type": "string"}, {"type": "null"}, True),
        ({"type": "integer"}, {"type": "number"}, False),
        ({"enum": ["a", "b"]}, {"enum": ["c"]}, True),
        ({"enum": ["a", 1]}, {"const": 1.0}, False),
        ({"const": True}, {"const": 1}, True),
        ({"enum": ["a"]}, {"type": "integer"}, True),
        (inside({"const": "cat"}), inside({"const": "dog"}), True),
        (inside({"const": "cat"}), {"type": "object", "properties": {"it": {"const": "dog"}}}, True),
        (inside({"const": "cat"}), {"type": "object", "additionalProperties": False}, True),
        (inside({"type": "string"}), {"type": "object", "required": ["other"]}, False),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"type": "boolean"}, True),
        ({"allOf": [{"type": "string"}, {"minLength": 1}]}, {"type": "boolean"}, True),
        ({"$ref": "#/$defs/City"}, {"type": "null"}, True),
        (LOOP, {"type": "null"}, False),
    ],
)
def test_one_of_is_followed_where_its_alternatives_exclude_each_other(first, second, apart):
    definitions = {"City": CITY, "Loop": LOOP}
    for alternatives in ([first, second], [second, first]):
        schema = inside({"oneOf": alternatives}, **{"$defs": definitions})
        if apart:
            assert "oneOf" not in json.dumps(ready(schema))
        else:
            with pytest.raises(Unfollowable, match="oneOf"):
                ready(schema)


def test_one_of_long_lists_of_values_is_followed():
    """Each with its title, as those write them who want to explain the values of an enum."""
    titled = [{"const": f"value {i}", "title": f"Value {i}"} for i in range(250)]
    assert len(ready({"oneOf": titled})["anyOf"]) == 250
    with pytest.raises(Unfollowable, match="oneOf"):
        ready({"oneOf": [*titled, {"const": "value 7"}]})
    even, odd = ({"enum": list(range(start, 40_000, 2))} for start in (0, 1))
    assert len(ready({"oneOf": [even, odd]})["anyOf"]) == 2


def test_long_chains_of_references_are_followed_quickly(monkeypatch):
    looked_at = []
    inside = endings._inside
    monkeypatch.setattr(endings, "_inside", lambda part: looked_at.append(part) or inside(part))
    chain = {str(i): {"allOf": [{"$ref": f"#/$defs/{i - 1}"}]} for i in range(1, 3000)}
    links = [{"$ref": f"#/$defs/{i}"} for i in range(3000)]
    assert len(ready({"anyOf": links, "$defs": {"0": {"type": "null"}, **chain}})["$defs"]) == 3000
    assert len(looked_at) < 20_000


def test_many_unions_are_compared_no_longer_than_one():
    first, second = ({"anyOf": [{"minimum": i, "type": kind} for i in range(200)]} for kind in ("null", "string"))
    union = {"oneOf": [{"$ref": "#/$defs/first"}, {"$ref": "#/$defs/second"}]}
    defined = {"$defs": {"first": first, "second": second}}
    assert ready({"anyOf": [union], **defined})
    with pytest.raises(Unfollowable, match="too many to be told apart"):
        ready({"anyOf": [union] * 1000, **defined})


def test_a_union_told_apart_by_a_tag_may_hold_itself():
    leaf = {"type": "object", "properties": {"kind": {"const": "leaf"}}, "required": ["kind"]}
    tree = {
        "type": "object",
        "properties": {"kind": {"const": "node"}, "left": {"$ref": "#/$defs/Tree"}},
        "required": ["kind"],
    }
    union = {"oneOf": [{"$ref": "#/$defs/Leaf"}, {"$ref": "#/$defs/Node"}]}
    definitions = {"Tree": union, "Leaf": leaf, "Node": tree}
    made = ready({"$ref": "#/$defs/Tree", "$defs": definitions})
    jsonschema.validate({"kind": "node", "left": {"kind": "node", "left": {"kind": "leaf"}}}, made)


@pytest.mark.parametrize(
    "schema",
    [
        inside({"$ref": "#/$defs/City"}, **{"$defs": {"City": CITY}}),
        inside({"$ref": "#/definitions/City"}, definitions={"City": CITY}),
        inside({"$ref": "#/properties/other"}) | {"properties": {"other": CITY, "it": {"$ref": "#/properties/other"}}},
        inside({"$ref": "#city"}, **{"$defs": {"any": {"$anchor": "city", **CITY}}}),
        inside({"$ref": "#city"}, definitions={"any": {"$id": "#city", **CITY}}),
        inside({"$ref": "city"}, **{"$defs": {"any": {"$id": "city", **CITY}}}),
        inside({"$ref": "city"}, **{"$id": "https://a.b/root", "$defs": {"any": {"$id": "https://a.b/city", **CITY}}}),
        inside({"$ref": "#/$defs/a~1b%20c~0"}, **{"$defs": {"a/b c~": CITY}}),
        inside({"$ref": "#/allOf/0"}, allOf=[CITY]) | {"required": ["it", "zip"]},
        inside(
            {"$ref": "urn:city"}, **{"$defs": {"any": {"$id": "urn:city", "$ref": "#/$defs/in", "$defs": {"in": CITY}}}}
        ),
    ],
)
def test_references_are_found_wherever_a_schema_may_point(schema):
    made = ready(schema)
    jsonschema.validate({"it": {"zip": "1"}, "zip": "1"}, made)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"it": {"zip": 1}, "zip": "1"}, made)


def test_what_requires_itself_for_ever_is_refused_and_dropped_where_it_need_not_be():
    for schema in (LOOP, inside(LOOP), {"type": "array", "items": LOOP, "minItems": 1}, inside({"$ref": "#"})):
        with pytest.raises(Unfollowable, match="itself"):
            ready({**schema, "$defs": {"Loop": LOOP}})
    optional = {"type": "object", "properties": {"it": LOOP}, "$defs": {"Loop": LOOP}}
    assert ready(optional)["properties"] == {"it": False}
    ready({"type": "object", "properties": {"it": {"$ref": "#"}}})
