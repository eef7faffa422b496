"""BioRetriever against the index it searches."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
import time
from pathlib import Path

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from support.langchain import QUERY, TEXTS, documents, ticks_during

from biorerank_plugins import BiEncoder, Passage, PassageIndex
from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.langchain import BioRetriever

PASSAGES = [
    Passage(f"p{number}", text, f"title {number}" if number % 2 else None, {"year": 2000 + number, "mesh": ["a", "b"]})
    for number, text in enumerate(TEXTS)
]


@pytest.fixture(scope="module")
def encoder(tiny_encoder_dir: Path) -> BiEncoder:
    return BiEncoder(tiny_encoder_dir, device="cpu")


@pytest.fixture(scope="module")
def index(encoder: BiEncoder) -> PassageIndex:
    return PassageIndex.build(PASSAGES, encoder=encoder)


def _ids(found) -> list[str]:
    return [document.id for document in found]


def _scores(found) -> list[float]:
    return [document.metadata["retrieval_score"] for document in found]


def test_it_is_a_retriever_of_langchain(index):
    assert isinstance(BioRetriever(index=index), BaseRetriever)


@pytest.mark.parametrize("first_stage", [None, "hybrid", "dense", "lexical"])
def test_it_finds_what_the_index_finds(index, first_stage):
    expected = index.search(QUERY, 5, first_stage=first_stage)
    retriever = BioRetriever(index=index, k=5, first_stage=first_stage)
    found = retriever.invoke(QUERY)
    assert _ids(found) == [candidate.passage.id for candidate in expected]
    assert _scores(found) == [candidate.score for candidate in expected]
    assert asyncio.run(retriever.ainvoke(QUERY)) == found
    for document, candidate in zip(found, expected, strict=True):
        passage = candidate.passage
        assert document.page_content == passage.text
        assert document.metadata.get("title") == passage.title
        assert document.metadata.get("biorerank_first_stage") == candidate.first_stage
        own = ("title", "retrieval_score", "biorerank_first_stage")
        rest = {key: value for key, value in document.metadata.items() if key not in own}
        assert rest == {"year": passage.metadata["year"], "mesh": ["a", "b"]}
        json.dumps(document.metadata, allow_nan=False)
        assert type(document.metadata["retrieval_score"]) is float


def test_the_best_comes_first_in_every_first_stage(index):
    for first_stage in ("hybrid", "dense", "lexical"):
        scores = _scores(BioRetriever(index=index, first_stage=first_stage).invoke(QUERY))
        assert scores == sorted(scores, reverse=True)


def test_settings_of_the_retriever_and_of_a_call(index):
    retriever = BioRetriever(index=index, k=3, filters={"year": {">=": 2004}}, first_stage="dense")
    assert len(retriever.invoke(QUERY)) == 3
    assert {document.metadata["year"] >= 2004 for document in retriever.invoke(QUERY)} == {True}
    assert len(retriever.invoke(QUERY, k=1)) == 1
    assert _ids(retriever.invoke(QUERY, filters={"id": "p0"})) == ["p0"]
    assert len(retriever.invoke(QUERY, k=8)) == 4
    assert len(retriever.invoke(QUERY, k=8, filters={})) == 8
    assert _ids(retriever.invoke(QUERY, first_stage="lexical", filters={})) == [
        candidate.passage.id for candidate in index.search(QUERY, 3, first_stage="lexical")
    ]
    assert asyncio.run(retriever.ainvoke(QUERY, k=2, filters={"year": 2005})) == retriever.invoke(
        QUERY, k=2, filters={"year": 2005}
    )
    retriever.k = 2
    assert len(retriever.invoke(QUERY)) == 2
    assert BioRetriever(index=index).k == 10


def test_the_filters_of_the_caller_stay_as_they_are(index):
    filters = {"year": {">=": 2004}}
    retriever = BioRetriever(index=index, filters=filters)
    retriever.invoke(QUERY)
    assert filters == {"year": {">=": 2004}}
    filters["year"] = 1999
    assert len(retriever.invoke(QUERY)) == 4


def test_a_folder_and_an_index_find_the_same(index, encoder, tmp_path):
    saved = PassageIndex.build(PASSAGES, encoder=encoder)
    saved.save(tmp_path / "index")
    saved.close()
    expected = BioRetriever(index=index).invoke(QUERY)
    for folder in (tmp_path / "index", str(tmp_path / "index")):
        assert BioRetriever(index=folder).invoke(QUERY) == expected
    with pytest.raises(PassageIndexError):
        BioRetriever(index=tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "k must be a whole number of at least 1, got 0"),
        ({"k": -1}, "got -1"),
        ({"k": True}, "got True"),
        ({"k": "5"}, "got '5'"),
        ({"first_stage": "bm25"}, "bm25"),
        ({"filters": {"year": {"~": 1}}}, "~"),
        ({"top_k": 5}, "top_k"),
    ],
)
def test_impossible_settings_are_refused(index, settings, message):
    with pytest.raises(ValueError, match=message):
        BioRetriever(index=index, **settings)
    if "top_k" not in settings:
        with pytest.raises(ValueError, match=message):
            BioRetriever(index=index).invoke(QUERY, **settings)
    else:
        with pytest.raises(TypeError, match=message):  # not ignored: it would look as if it worked
            BioRetriever(index=index).invoke(QUERY, **settings)


def test_filters_of_another_type_and_something_else_than_an_index_are_refused(index):
    with pytest.raises(TypeError, match="filter"):
        BioRetriever(index=index, filters="year")
    with pytest.raises(TypeError, match="index must be a PassageIndex or a folder, got list"):
        BioRetriever(index=PASSAGES)
    with pytest.raises(ValueError, match="index"):
        BioRetriever()


@pytest.mark.parametrize("query", [None, "", " \n"])
def test_a_blank_query_is_refused(index, query):
    with pytest.raises(ValueError, match="query"):
        BioRetriever(index=index).invoke(query)
    with pytest.raises(ValueError, match="query"):
        asyncio.run(BioRetriever(index=index).ainvoke(query))


def test_an_index_without_words_searches_by_meaning(encoder):
    index = PassageIndex.build(PASSAGES, encoder=encoder, lexical=False)
    [best, *_] = BioRetriever(index=index).invoke(QUERY)
    assert best.id == index.search(QUERY, 1, first_stage="dense")[0].passage.id
    with pytest.raises(PassageIndexError, match="lexical"):
        BioRetriever(index=index, first_stage="lexical")


# From documents


def test_documents_come_back_as_they_were(encoder):
    given = documents()
    given[0].id = None
    before = copy.deepcopy(given)
    retriever = BioRetriever.from_documents(given, encoder=encoder, k=8, tags=["mine"])
    found = {document.id: document for document in retriever.invoke(QUERY)}
    assert given == before and retriever.tags == ["mine"]
    assert found.keys() == {"0", *(document.id for document in given[1:])}
    for original in given:
        document = found[original.id or "0"]
        assert document.page_content == original.page_content
        assert document.metadata["title"] == original.metadata["title"]


def test_scores_are_those_of_an_index_of_passages_with_titles(encoder):
    passages = [Passage(d.id, d.page_content, d.metadata["title"]) for d in documents()]
    expected = PassageIndex.build(passages, encoder=encoder).search(QUERY, 8)
    found = BioRetriever.from_documents(documents(), encoder=encoder).invoke(QUERY)
    assert _ids(found) == [candidate.passage.id for candidate in expected]
    assert _scores(found) == [candidate.score for candidate in expected]


def test_what_an_earlier_search_said_is_not_said_again(encoder):
    given = documents(biorerank_first_stage="of an earlier search", relevance_score=0.5)
    retriever = BioRetriever.from_documents(given, encoder=encoder, first_stage="lexical")
    for document in retriever.invoke(QUERY):
        assert document.metadata["biorerank_first_stage"] == "lexical"
        assert "relevance_score" not in document.metadata


def test_documents_that_cannot_be_indexed(encoder):
    with pytest.raises(PassageIndexError):
        BioRetriever.from_documents([], encoder=encoder)
    with pytest.raises(ValueError, match="d0"):
        BioRetriever.from_documents([documents()[0], documents()[0]], encoder=encoder)
    with pytest.raises(ValueError, match="empty"):
        BioRetriever.from_documents([Document(id="empty", page_content=" ")], encoder=encoder)
    with pytest.raises(ValueError, match="got 0"):
        BioRetriever.from_documents(documents(), encoder=encoder, k=0)


# In LangChain


class Slow:
    """An encoder that takes its time."""

    def __init__(self, encoder: BiEncoder) -> None:
        self._encoder = encoder
        self.threads: set[int] = set()
        self.seconds = 0.0

    def __getattr__(self, name: str):
        return getattr(self._encoder, name)

    def encode_queries(self, queries):
        self.threads.add(threading.get_ident())
        time.sleep(self.seconds)
        return self._encoder.encode_queries(queries)


def test_async_does_not_block_the_loop(encoder):
    slow = Slow(encoder)
    retriever = BioRetriever(index=PassageIndex.build(PASSAGES, encoder=slow))
    slow.seconds = 0.3

    async def main():
        return await ticks_during(asyncio.gather(*(retriever.ainvoke(QUERY, k=n) for n in (1, 2, 3))))

    found, woke_up = asyncio.run(main())
    assert [len(one) for one in found] == [1, 2, 3]
    assert woke_up >= 10
    assert threading.get_ident() not in slow.threads


def test_handlers_hear_of_success_and_of_errors(index):
    heard: list[str] = []

    class Handler(BaseCallbackHandler):
        def on_retriever_start(self, serialized, query, **_):
            heard.append(f"start {query!r}")

        def on_retriever_end(self, found, **_):
            heard.append(f"end {len(found)}")

        def on_retriever_error(self, error, **_):
            heard.append(type(error).__name__)

    config = {"callbacks": [Handler()]}
    retriever = BioRetriever(index=index, k=2)
    retriever.invoke("p53", config)
    asyncio.run(retriever.ainvoke("p53", config))
    with pytest.raises(ValueError):
        retriever.invoke(" ", config)
    assert heard == ["start 'p53'", "end 2", "start 'p53'", "end 2", "start ' '", "ValueError"]


def test_many_questions_at_once(index):
    retriever = BioRetriever(index=index, k=3)
    questions = [QUERY, "insulin", "heart failure"] * 5
    expected = [retriever.invoke(question) for question in questions]
    assert retriever.batch(questions) == expected
    assert asyncio.run(retriever.abatch(questions)) == expected
