"""Theirs (``CrossEncoderReranker``) beside ours: the same model folder and documents, in one process."""

from __future__ import annotations

import asyncio
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import CrossEncoderReranker
from langchain_core.cross_encoders import BaseCrossEncoder
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from support.texts import WORDS

from biorerank_plugins.errors import ScoringError
from biorerank_plugins.langchain import BioRerankCompressor

QUERY = "is p53 a tumour suppressor"


class FolderCrossEncoder(BaseCrossEncoder):
    """What ``HuggingFaceCrossEncoder`` of langchain-community does: ``CrossEncoder.predict`` for LangChain."""

    def __init__(self, model_name: str) -> None:
        from sentence_transformers import CrossEncoder

        self.client = CrossEncoder(model_name, device="cpu")

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        scores = self.client.predict(text_pairs)
        return [score[1] for score in scores] if len(scores.shape) > 1 else scores


class FromText(BaseCrossEncoder):
    """Reads the score off the text."""

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        return [float(text.split()[0]) for _, text in text_pairs]


def _documents(n: int, *, longest: int = 40) -> list[Document]:
    draw = np.random.default_rng(0)
    return [
        Document(
            id=f"d{number}",
            page_content=" ".join(draw.choice(WORDS, draw.integers(1, longest))),
            metadata={"title": "a title that theirs does not read", "pmid": number},
        )
        for number in range(n)
    ]


@pytest.fixture(scope="module")
def theirs_model(tiny_cross_encoder_dir: Path) -> FolderCrossEncoder:
    return FolderCrossEncoder(str(tiny_cross_encoder_dir))


def _ids(found: Any) -> list[str]:
    return [document.id for document in found]


@pytest.mark.parametrize("n", [0, 1, 2, 3, 50])
@pytest.mark.parametrize("top_n", [1, 3, 60])
def test_the_same_order(theirs_model, tiny_cross_encoder_dir, n, top_n):
    given = _documents(n)
    theirs = CrossEncoderReranker(model=theirs_model, top_n=top_n)
    expected = _ids(theirs.compress_documents(given, QUERY)) if n else []  # theirs fails on an empty list
    for model in (theirs_model, tiny_cross_encoder_dir, theirs_model.client):
        ours = BioRerankCompressor(model=model, top_n=top_n, device="cpu", dtype="float32")
        assert _ids(ours.compress_documents(given, QUERY)) == expected
        assert _ids(asyncio.run(ours.acompress_documents(given, QUERY))) == expected


def test_the_same_values(theirs_model, tiny_cross_encoder_dir):
    given = _documents(50)
    scores = theirs_model.score([(QUERY, document.page_content) for document in given])
    expected = {document.id: float(score) for document, score in zip(given, scores, strict=True)}
    for model in (theirs_model, tiny_cross_encoder_dir, theirs_model.client):
        ours = BioRerankCompressor(model=model, top_n=None, device="cpu", dtype="float32")
        found = {d.id: d.metadata["relevance_score"] for d in ours.compress_documents(given, QUERY)}
        assert found == pytest.approx(expected, abs=1e-5)


def test_ties_keep_their_order_in_both():
    given = [Document(id=str(n), page_content=f"{score} text") for n, score in enumerate([1, 2, 1, 2, 0, 2])]
    theirs = CrossEncoderReranker(model=FromText(), top_n=6).compress_documents(given, QUERY)
    ours = BioRerankCompressor(model=FromText(), top_n=6).compress_documents(given, QUERY)
    assert _ids(ours) == _ids(theirs) == ["1", "3", "5", "0", "2", "4"]


def test_inside_a_compression_retriever(theirs_model, tiny_cross_encoder_dir):
    """The swap: one import and one class name; ``model=`` may stay as it is."""
    base = RunnableLambda(lambda _: _documents(20))

    def through(compressor):
        return ContextualCompressionRetriever(base_compressor=compressor, base_retriever=base)

    expected = _ids(through(CrossEncoderReranker(model=theirs_model)).invoke(QUERY))
    # In their precision: passages of this random model differ by less than bf16 keeps.
    for model in (theirs_model, str(tiny_cross_encoder_dir)):
        ours = BioRerankCompressor(model=model, dtype="float32")
        assert _ids(through(ours).invoke(QUERY)) == expected
        assert _ids(asyncio.run(through(ours).ainvoke(QUERY))) == expected


# The arguments


def test_ours_takes_every_argument_of_theirs_with_the_same_default(theirs_model):
    fields = CrossEncoderReranker.model_fields
    assert set(fields) == {"model", "top_n"}, "theirs has a new argument"
    given = {"model": theirs_model, "top_n": 7}
    ours = BioRerankCompressor(**{name: given[name] for name in fields})
    assert {name: getattr(ours, name) for name in fields} == given
    for name, field in fields.items():
        if not field.is_required():
            assert BioRerankCompressor.model_fields[name].default == field.default
        assert name in BioRerankCompressor.__doc__


def test_both_refuse_arguments_that_they_do_not_know(theirs_model):
    for cls in (CrossEncoderReranker, BioRerankCompressor):
        with pytest.raises(ValueError, match="top_k"):
            cls(model=theirs_model, top_k=3)


# Where theirs is wrong


def test_theirs_returns_no_scores(theirs_model):
    given = _documents(5)
    assert all(
        "relevance_score" not in d.metadata
        for d in CrossEncoderReranker(model=theirs_model).compress_documents(given, QUERY)
    )
    for document in BioRerankCompressor(model=theirs_model).compress_documents(given, QUERY):
        assert type(document.metadata["relevance_score"]) is float
        json.dumps(document.metadata, allow_nan=False)


def test_theirs_returns_the_caller_s_own_objects(theirs_model):
    given = _documents(5)
    before = copy.deepcopy(given)
    [theirs, *_] = CrossEncoderReranker(model=theirs_model).compress_documents(given, QUERY)
    assert any(theirs is document for document in given)
    [ours, *_] = BioRerankCompressor(model=theirs_model).compress_documents(given, QUERY)
    assert not any(ours is document for document in given)
    ours.metadata["mine"] = 1
    assert given == before


@pytest.mark.parametrize(("top_n", "theirs_returns"), [(0, 0), (-1, 4), (True, 1), ("2", 2)])
def test_theirs_takes_any_top_n(theirs_model, top_n, theirs_returns):
    given = _documents(5)
    assert len(CrossEncoderReranker(model=theirs_model, top_n=top_n).compress_documents(given, QUERY)) == theirs_returns
    with pytest.raises(ValueError, match=f"top_n must be a whole number of at least 1, got {top_n!r}"):
        BioRerankCompressor(model=theirs_model, top_n=top_n)


def test_theirs_sorts_nonsense_where_a_score_is_no_number():
    given = [Document(id=str(n), page_content=f"{score} text") for n, score in enumerate([1, "nan", 3])]
    theirs = CrossEncoderReranker(model=FromText()).compress_documents(given, QUERY)
    assert _ids(theirs) != ["2", "0", "1"]
    with pytest.raises(ScoringError, match="1"):
        BioRerankCompressor(model=FromText()).compress_documents(given, QUERY)


def test_theirs_drops_documents_that_the_model_gives_no_score_for():
    class TooFew(BaseCrossEncoder):
        def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
            return [0.5] * (len(text_pairs) - 1)

    given = _documents(3)
    assert len(CrossEncoderReranker(model=TooFew()).compress_documents(given, QUERY)) == 2
    with pytest.raises(ScoringError, match="3 texts"):
        BioRerankCompressor(model=TooFew()).compress_documents(given, QUERY)


def test_theirs_takes_a_blank_query(theirs_model):
    given = _documents(2)
    assert len(CrossEncoderReranker(model=theirs_model).compress_documents(given, " ")) == 2
    with pytest.raises(ValueError, match="query is empty"):
        BioRerankCompressor(model=theirs_model).compress_documents(given, " ")


def test_an_empty_list(theirs_model):
    """Theirs depends on what the model makes of no pairs; ours never asks it."""

    class Refuses(BaseCrossEncoder):
        def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
            return [1 / len(text_pairs)] * len(text_pairs)

    with pytest.raises(ZeroDivisionError):
        CrossEncoderReranker(model=Refuses()).compress_documents([], QUERY)
    assert BioRerankCompressor(model=Refuses()).compress_documents([], QUERY) == []
    assert BioRerankCompressor(model=theirs_model).compress_documents([], QUERY) == []


def test_theirs_does_not_read_the_end_of_a_long_document(theirs_model, tiny_cross_encoder_dir):
    ours = BioRerankCompressor(model=tiny_cross_encoder_dir, device="cpu", dtype="float32", top_n=None)
    # The weights are random: which words the model likes best and least is found out first.
    words = [Document(page_content=" ".join([word] * 40)) for word in WORDS]
    best, *_, least = (found.page_content + " " for found in ours.compress_documents(words, QUERY))
    given = [
        Document(id="without", page_content=least * 10),
        Document(id="with", page_content=least * 5 + best * 5),
    ]
    theirs = theirs_model.score([(QUERY, document.page_content) for document in given])
    assert theirs[0] == theirs[1]  # the difference begins after what is read
    first, second = ours.compress_documents(given, QUERY)
    assert (first.id, second.id) == ("with", "without")
    assert first.metadata["relevance_score"] > second.metadata["relevance_score"]
