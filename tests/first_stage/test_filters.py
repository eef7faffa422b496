"""Filters, against plain Python on the same metadata."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.first_stage.filters import compile_filter
from biorerank_plugins.passages import Passage

PASSAGES = [
    Passage("a", "text a", "Title A", {"year": 2020, "journal": "BMJ", "open": True, "tags": ["x", "y"], "score": 0.5}),
    Passage(
        "b", "text b", None, {"year": 2015, "journal": "Lancet", "open": False, "tags": [], "article": {"pages": 7}}
    ),
    Passage(
        "c", "text c", "Title C", {"year": "2020", "journal": None, "tags": ["2", 2, None], "article": {"pages": 12}}
    ),
    Passage("d", "text d", "", {"title": "in metadata", "metadata": {"title": "deep"}, "date": "2021-03-04"}),
]


def found(filters: dict[str, Any], passages: list[Passage] = PASSAGES) -> str:
    catalog = Catalog.in_memory()
    catalog.insert(enumerate(passages))
    return "".join(passages[row].id for row in catalog.rows(compile_filter(filters)))


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"year": 2020}, "a"),
        ({"year": "2020"}, "c"),
        ({"year": {"==": 2020.0}}, "a"),
        ({"year": {"!=": 2020}}, "bcd"),
        ({"year": {">=": 2015}}, "ab"),
        ({"year": {">": 2015, "<": 2021}}, "a"),
        ({"year": {"<=": 2015}}, "b"),
        ({"year": {">": "2000"}}, "c"),
        ({"date": {">=": "2021-01-01"}}, "d"),
        ({"score": {"<": 1}}, "a"),
        ({"journal": ["BMJ", "Lancet"]}, "ab"),
        ({"journal": {"in": ["BMJ", None]}}, "acd"),
        ({"journal": {"in": []}}, ""),
        ({"journal": {"not in": []}}, "abcd"),
        ({"journal": {"not in": ["BMJ"]}}, "bcd"),
        ({"journal": None}, "cd"),
        ({"journal": {"!=": None}}, "ab"),
        ({"open": True}, "a"),
        ({"open": False}, "b"),
        ({"open": 1}, "a"),
        ({"tags": {"contains": "x"}}, "a"),
        ({"tags": {"contains": 2}}, "c"),
        ({"tags": {"contains": "2"}}, "c"),
        ({"tags": {"contains": None}}, "c"),
        ({"tags": '["x","y"]'}, ""),
        ({"tags": ['["x","y"]']}, ""),
        ({"article.pages": {">": 10}}, "c"),
        ({"metadata.article.pages": 7}, "b"),
        ({"id": "a"}, "a"),
        ({"id": ["a", "d", "zz"]}, "ad"),
        ({"title": "Title A"}, "a"),
        ({"title": None}, "b"),
        ({"title": ""}, "d"),
        ({"title": {">": "Title A"}}, "c"),
        ({"metadata.title": "in metadata"}, "d"),
        ({"metadata.metadata.title": "deep"}, "d"),
        ({"text": "text b"}, "b"),
        ({"year": 2020, "journal": "BMJ"}, "a"),
        ({"$or": [{"year": 2020}, {"id": "d"}]}, "ad"),
        ({"$and": [{"year": {">": 2000}}, {"open": False}]}, "b"),
        ({"$not": {"year": {">": 2000}}}, "cd"),
        ({"$not": {"$or": [{"id": "a"}, {"id": "b"}]}, "title": "Title C"}, "c"),
        ({"it's a; DROP TABLE passages": 1}, ""),
        ({"journal": "BMJ' OR '1'='1"}, ""),
        ({"journal": {"substring": "an"}}, "b"),
        ({"journal": {"substring": "LAN"}}, ""),
        ({"journal": {"isubstring": "LAN"}}, "b"),
        ({"journal": {"substring": ""}}, "ab"),
        ({"year": {"substring": "20"}}, "c"),
        ({"tags": {"substring": "x"}}, ""),
        ({"title": {"isubstring": "title c"}}, "c"),
        ({"journal": {"empty": True}}, "cd"),
        ({"tags": {"empty": True}}, "bd"),
        ({"tags": {"empty": False}}, "ac"),
        ({"title": {"empty": True}}, "bd"),
        ({"article": {"empty": True}}, "ad"),
    ],
)
def test_filter_finds_what_its_text_says(filters: dict[str, Any], expected: str) -> None:
    assert found(filters) == expected


@pytest.mark.parametrize("filters", [None, {}])
def test_no_filter_allows_everything(filters: dict[str, Any] | None) -> None:
    assert compile_filter(filters) is None


@pytest.mark.parametrize(
    ("filters", "error", "says"),
    [
        ("year=2020", TypeError, "must be a mapping"),
        ({2020: "year"}, TypeError, "keys must be strings"),
        ({"year": {"~": 1}}, ValueError, "Unknown operator '~'"),
        ({"year": {"$gt": 1}}, ValueError, "Expected one of: ==, !="),
        ({"year": {}}, ValueError, "is empty"),
        ({"$xor": []}, ValueError, "Unknown filter combination"),
        ({"$and": []}, ValueError, "at least one"),
        ({"$or": {"a": 1}}, TypeError, "needs a list of filters"),
        ({"$or": ["a"]}, TypeError, "must be a mapping"),
        ({"$not": {}}, ValueError, "must not be empty"),
        ({"$not": []}, TypeError, "must be a mapping"),
        ({"year": {">": None}}, TypeError, "needs a number or a string"),
        ({"year": {">": True}}, TypeError, "needs a number or a string"),
        ({"year": {">": float("nan")}}, ValueError, "not a finite number"),
        ({"year": 2**64}, ValueError, "64 bits"),
        ({"year": {"in": "2020"}}, TypeError, "needs a list"),
        ({"year": {"==": [2020]}}, TypeError, "compares with a list"),
        ({"year": [[1]]}, TypeError, "compares with a list"),
        ({"a..b": 1}, ValueError, "no field"),
        ({'a"b': 1}, ValueError, "no field"),
        ({"": 1}, ValueError, "no field"),
        ({"a\0b": 1}, ValueError, "control characters"),
        ({"a\nb": 1}, ValueError, "no field"),
        ({"a\x7f": 1}, ValueError, "no field"),
        ({"a.\ud800": 1}, ValueError, "no field"),
        ({"year": "\ud800"}, ValueError, "half a surrogate pair"),
        ({"id": "a\udfff"}, ValueError, "half a surrogate pair"),
        ({"id": ["a", "\udfff"]}, ValueError, "half a surrogate pair"),
        ({"tags": {"contains": "\ud800"}}, ValueError, "half a surrogate pair"),
        ({"title": {">": "\ud800"}}, ValueError, "half a surrogate pair"),
        ({"year": np.float32("nan")}, ValueError, "not a finite number"),
        ({"year": np.uint64(2**63)}, ValueError, "64 bits"),
        ({"year": np.array([2020])}, TypeError, "compares with a ndarray"),
        ({"year": np.datetime64("2020-01-01")}, TypeError, "compares with a date"),
        ({"open": {">": np.bool_(True)}}, TypeError, "needs a number or a string"),
        ({"title": {"contains": "x"}}, ValueError, "holds a list"),
        ({"title": {"substring": None}}, TypeError, "need a string, got None"),
        ({"title": {"isubstring": ["x"]}}, TypeError, "compares with a list"),
        ({"title": {"empty": 1}}, TypeError, "needs True or False, got 1"),
    ],
)
def test_malformed_filter_is_refused_with_the_reason(filters: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        compile_filter(filters)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"year": np.int64(2020)}, "a"),
        ({"year": {">=": np.int32(2015), "<": np.uint16(2020)}}, "b"),
        ({"score": np.float32(0.5)}, "a"),
        ({"score": {"<=": np.float64(0.5)}}, "a"),
        ({"open": np.bool_(False)}, "b"),
        ({"journal": np.str_("BMJ")}, "a"),
        ({"year": [np.int64(2015), np.str_("2020")]}, "bc"),
        ({"tags": {"contains": np.int64(2)}}, "c"),
        ({"year": np.array(2015)}, "b"),
    ],
)
def test_scalars_of_numpy_count_as_what_they_hold(filters: dict[str, Any], expected: str) -> None:
    assert found(filters) == expected


def test_control_characters_in_values_are_text_like_any_other() -> None:
    passages = [Passage("a", "text", None, {"x": "one\ntwo\x1b"}), Passage("b", "text", None, {"x": "one"})]
    assert found({"x": "one\ntwo\x1b"}, passages) == "a"


def test_deep_nesting_is_refused_and_long_lists_are_not() -> None:
    nested: dict[str, Any] = {"year": 1}
    for _ in range(60):
        nested = {"$not": nested}
    with pytest.raises(ValueError, match="levels deep"):
        compile_filter(nested)
    assert found({"$or": [{"id": name} for name in [*map(str, range(3000)), "b"]]}) == "b"
    assert found({"id": [*map(str, range(100_000)), "b"]}) == "b"


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, -1.5, 2.0]), st.sampled_from("ab")
)
LEAVES = st.one_of(
    st.builds(lambda f, v: {f: v}, st.sampled_from("xy"), SCALARS),
    st.builds(lambda f, o, v: {f: {o: v}}, st.sampled_from("xy"), st.sampled_from(["==", "!="]), SCALARS),
    st.builds(
        lambda f, o, v: {f: {o: v}},
        st.sampled_from("xy"),
        st.sampled_from(["<", "<=", ">", ">="]),
        st.one_of(st.integers(-3, 3), st.sampled_from("ab")),
    ),
    st.builds(
        lambda f, o, v: {f: {o: v}},
        st.sampled_from("xy"),
        st.sampled_from(["in", "not in"]),
        st.lists(SCALARS, max_size=3),
    ),
    st.builds(lambda f, v: {f: {"contains": v}}, st.sampled_from("xy"), SCALARS),
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda f: {"$not": f}, inner),
        st.builds(lambda c, fs: {c: fs}, st.sampled_from(["$and", "$or"]), st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=6,
)
METADATA = st.dictionaries(st.sampled_from("xy"), st.one_of(SCALARS, st.lists(SCALARS, max_size=2)), max_size=2)
COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def holds(filters: dict[str, Any], metadata: dict[str, Any]) -> bool:
    """What the module's text says, in Python."""
    for key, value in filters.items():
        if key == "$not":
            ok = not holds(value, metadata)
        elif key in ("$and", "$or"):
            ok = (all if key == "$and" else any)(holds(part, metadata) for part in value)
        else:
            conditions = value if isinstance(value, dict) else {"==": value}
            ok = all(compare(metadata.get(key), name, operand) for name, operand in conditions.items())
        if not ok:
            return False
    return True


def compare(stored: Any, name: str, operand: Any) -> bool:
    if name in COMPARISONS:
        if isinstance(stored, list) or stored is None or isinstance(stored, str) != isinstance(operand, str):
            return False
        return bool(COMPARISONS[name](stored, operand))
    if name == "contains":
        return isinstance(stored, list) and operand in stored
    if name in ("in", "not in"):
        return (stored in operand and not isinstance(stored, list)) == (name == "in")
    return (stored == operand) == (name == "==")


@settings(max_examples=150)
@given(FILTERS, st.lists(METADATA, min_size=1, max_size=4))
def test_any_filter_agrees_with_python(filters: dict[str, Any], metadata: list[dict[str, Any]]) -> None:
    passages = [Passage(str(number), "text", None, item) for number, item in enumerate(metadata)]
    expected = "".join(str(number) for number, item in enumerate(metadata) if holds(filters, item))
    assert found(filters, passages) == expected


def nested(levels: int, key: str) -> dict[str, Any]:
    filters: dict[str, Any] = {"year": 2020}
    for _ in range(levels):
        filters = {key: filters if key == "$not" else [filters]}
    return filters


@pytest.mark.parametrize("key", ["$and", "$or", "$not"])
def test_fifty_levels_are_read_and_no_more(key: str):
    assert compile_filter(nested(50, key)) is not None
    with pytest.raises(ValueError, match="more than 50 levels"):
        compile_filter(nested(51, key))


@pytest.mark.parametrize("given", [3, "ab", {"year": 2020}, None])
def test_a_combination_of_no_list_is_named(given: Any):
    with pytest.raises(TypeError, match=r"'\$and' needs a list of filters"):
        compile_filter({"$and": given})
