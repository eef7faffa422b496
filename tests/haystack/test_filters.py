"""Haystack's filter language over an index: the host's own tests, and its own evaluation as the oracle."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import pytest
from haystack import Document
from haystack.errors import FilterError
from haystack.testing.document_store import FilterDocumentsTest
from haystack.utils.filters import document_matches_filter
from hypothesis import given, settings
from hypothesis import strategies as st
from support.haystack import ids

from biorerank_plugins import BiEncoder
from biorerank_plugins.haystack import BioRetriever
from biorerank_plugins.haystack.document_filters import InvalidFilterError, translated


@pytest.fixture(scope="module")
def encoder(tiny_encoder_dir: Path) -> BiEncoder:
    return BiEncoder(tiny_encoder_dir, device="cpu", dtype="float32")


class Found:
    """A document store as far as the host's tests need one, whose filtering is the retriever's."""

    def __init__(self, encoder: BiEncoder) -> None:
        self._encoder = encoder
        self._documents: list[Document] = []

    def write_documents(self, documents: list[Document]) -> int:
        self._documents += documents
        return len(documents)

    def filter_documents(self, filters=None) -> list[Document]:
        if not self._documents:
            return []
        retriever = BioRetriever(documents=self._documents, encoder=self._encoder, first_stage="dense", top_k=1000)
        found = set(ids(retriever.run("document", filters=filters)))
        return [document for document in self._documents if document.id in found]


class TestTheHostsOwnTests(FilterDocumentsTest):
    @pytest.fixture
    def document_store(self, encoder: BiEncoder) -> Found:
        return Found(encoder)


METAS = [
    {},
    {"n": 1, "s": "a", "d": "2020-01-01", "b": True},
    {"n": 2.5, "s": "b", "d": "2020-06-15", "b": False},
    {"n": -3, "s": "", "d": "2021-01-01T10:00:00", "b": None},
    {"n": None, "s": "ü", "d": "1999-12-31T23:59:59", "deep": {"n": 1, "s": "a"}},
    {"n": 1, "s": "2020-01-01", "deep": {"n": None}, "title": "T"},
    {"n": 0, "deep": "flat", "list": ["a", "b"], "title": "U"},
    {"n": 7, "list": [], "s": "A", "id": "other", "content": "x"},
]
DOCUMENTS = [Document(id=f"doc-{number}", content=f"text {number}", meta=meta) for number, meta in enumerate(METAS)]

NUMBERS = st.sampled_from([-3, 0, 1, 1.0, 2, 2.5, 7, True, False, None])
STRINGS = st.sampled_from(["a", "b", "", "ü", "A", "T", "U", "nothing", None])
DATES = st.sampled_from(["1999-12-31T23:59:59", "2020-01-01", "2020-03-01", "2021-01-01T10:00:00", None])
EQUAL, ORDER, IN = (
    st.sampled_from(["==", "!="]),
    st.sampled_from([">", ">=", "<", "<="]),
    st.sampled_from(["in", "not in"]),
)
NUMBER_FIELDS = st.sampled_from(["meta.n", "n", "meta.deep.n", "meta.missing", "meta.missing.deeper"])
STRING_FIELDS = st.sampled_from(["meta.s", "s", "meta.deep.s", "meta.title", "meta.id", "meta.content", "meta.d"])
ANY = NUMBERS | STRINGS


def _condition(field, operator, value):
    return st.builds(lambda f, o, v: {"field": f, "operator": o, "value": v}, field, operator, value)


COMPARISONS = st.one_of(
    _condition(NUMBER_FIELDS | STRING_FIELDS | st.just("meta.b"), EQUAL, ANY),
    _condition(NUMBER_FIELDS | STRING_FIELDS | st.just("meta.list"), IN, st.lists(ANY, max_size=4)),
    _condition(NUMBER_FIELDS, ORDER, NUMBERS),
    _condition(st.just("meta.d"), ORDER | EQUAL, DATES),
    _condition(st.just("id"), EQUAL, st.sampled_from(["doc-1", "doc-9"])),
    _condition(st.just("id"), IN, st.lists(st.sampled_from(["doc-1", "doc-2", "doc-9"]), max_size=3)),
    _condition(st.just("content"), EQUAL, st.sampled_from(["text 3", "text"])),
)
FILTERS = st.recursive(
    COMPARISONS,
    lambda inner: st.builds(
        lambda operator, parts: {"operator": operator, "conditions": parts},
        st.sampled_from(["AND", "OR", "NOT"]),
        st.lists(inner, max_size=3),
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def retriever(encoder: BiEncoder) -> BioRetriever:
    return BioRetriever(documents=DOCUMENTS, encoder=encoder, first_stage="dense", top_k=len(DOCUMENTS))


@settings(max_examples=80)
@given(FILTERS)
def test_a_filter_holds_for_the_documents_that_haystack_says_it_holds_for(retriever, filters):
    expected = {document.id for document in DOCUMENTS if document_matches_filter(filters, document)}
    assert set(ids(retriever.run("text", filters=filters))) == expected


def test_the_filter_comes_before_top_k(encoder):
    many = [Document(id=str(number), content="p53 tumours", meta={"n": number}) for number in range(200)]
    last = {"field": "meta.n", "operator": ">=", "value": 198}
    for first_stage in ("dense", "hybrid", "lexical"):
        found = BioRetriever(documents=many, encoder=encoder, first_stage=first_stage, top_k=2)
        assert sorted(ids(found.run("p53", filters=last))) == ["198", "199"]


@pytest.mark.parametrize("moment", [date(2020, 6, 15), datetime(2020, 6, 15)])
def test_dates_as_objects(retriever, moment):
    text = moment.isoformat()
    for operator in (">=", "<"):
        given_object = retriever.run("text", filters={"field": "meta.d", "operator": operator, "value": moment})
        assert ids(given_object) == ids(
            retriever.run("text", filters={"field": "meta.d", "operator": operator, "value": text})
        )


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"field": "meta.n", "operator": "==="}, "no 'value'"),
        ({"field": "meta.n", "value": 1}, "no 'operator'"),
        ({"operator": "AND"}, "no 'conditions'"),
        ({"conditions": []}, "no 'operator'"),
        ({"n": 1}, "no 'conditions' and no 'operator'"),
        ({"field": "meta.n", "operator": "=", "value": 1}, "Unknown operator '='"),
        ({"operator": "and", "conditions": []}, "Unknown logical operator 'and'"),
        ({"operator": "AND", "conditions": {"field": "meta.n"}}, "needs a list"),
        ({"operator": "AND", "conditions": ["meta.n"]}, "must be a dictionary, got str"),
        ({"field": "meta.s", "operator": ">", "value": "abc"}, "got 'abc'"),
        ({"field": "meta.s", "operator": ">", "value": "1"}, "got '1'"),
        ({"field": "meta.n", "operator": "<", "value": [1]}, "compares with a list"),
        ({"field": "meta.n", "operator": "==", "value": {"a": 1}}, "compares with a dict"),
        ({"field": "meta.n", "operator": "in", "value": "abc"}, "needs a list, got str"),
        ({"field": "meta.n", "operator": "in", "value": (1, 2)}, "needs a list, got tuple"),
        ({"field": "meta.n", "operator": "in", "value": [[1]]}, "compares with a list"),
        ({"field": "score", "operator": ">", "value": 1}, "'score' cannot be filtered by"),
        ({"field": "deep.n", "operator": "==", "value": 1}, "'deep.n' cannot be filtered by"),
        ({"field": 5, "operator": "==", "value": 1}, "must be a string, got int"),
    ],
)
def test_a_malformed_filter_is_refused_with_its_value(retriever, filters, message):
    for refusing in (lambda: retriever.run("text", filters=filters), lambda: BioRetriever("folder", filters=filters)):
        with pytest.raises(InvalidFilterError, match=message) as caught:
            refusing()
        assert isinstance(caught.value, FilterError) and isinstance(caught.value, ValueError)


def test_no_filter():
    assert translated(None) is None and translated({}) is None
