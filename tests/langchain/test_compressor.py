"""BioRerankCompressor against the core: order, values, texts, settings, async, bad input."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import math
import pickle
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from langchain_core.documents import BaseDocumentCompressor, Document
from support.langchain import QUERY, TEXTS, Length, documents, numbered, ticks_during
from support.scorers import by_number

from biorerank_plugins import BioReranker, Candidate, Passage
from biorerank_plugins.errors import ModelError, ScoringError, ScoringTimeoutError
from biorerank_plugins.langchain import BioRerankCompressor

INPUT = 100_000


@pytest.fixture(scope="module")
def compressor(tiny_cross_encoder_dir: Path) -> BioRerankCompressor:
    return BioRerankCompressor(model=tiny_cross_encoder_dir, device="cpu", dtype="float32", top_n=None)


@pytest.fixture
def folder_with_settings(tiny_cross_encoder_dir: Path, tmp_path: Path) -> Path:
    """The tiny model, with a template and a fusion weight stored beside it."""
    folder = shutil.copytree(tiny_cross_encoder_dir, tmp_path / "model")
    settings = {"template": "{title}: {text}", "fusion": {"lexical": 100.0}}
    (folder / "biorerank.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def _ids(found) -> list[str]:
    return [document.id for document in found]


def _scores(found) -> list[float]:
    return [document.metadata["relevance_score"] for document in found]


# Order, values and what comes out


def test_it_is_a_compressor_of_langchain():
    assert issubclass(BioRerankCompressor, BaseDocumentCompressor)


def test_order_and_values_are_those_of_the_core(compressor, tiny_cross_encoder_dir):
    found = compressor.compress_documents(documents(), QUERY)
    core = BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32").rank(QUERY, TEXTS)
    assert [d.page_content for d in found] == [line.passage.text for line in core]
    assert _scores(found) == [line.score for line in core]  # the very same bits


def test_the_documents_that_were_given_stay_as_they_are(compressor):
    class Rich(Document):
        note: str = "kept"

    given = [*documents(tags=["a", ["b"]]), Rich(id="rich", page_content="p53", metadata={"nested": {"x": 1}})]
    before, objects = copy.deepcopy(given), list(given)
    found = compressor.compress_documents(given, QUERY)
    assert given == before and all(a is b for a, b in zip(given, objects, strict=True))
    by_id = {document.id: document for document in given}
    for document in found:
        original = by_id[document.id]
        assert document is not original and type(document) is type(original)
        assert document.page_content == original.page_content
        assert {k: v for k, v in document.metadata.items() if k != "relevance_score"} == original.metadata
        document.metadata.setdefault("tags", []).append("mine")
        document.metadata.setdefault("nested", {})["mine"] = 1
    assert given == before


def test_the_list_may_be_any_iterable_of_documents(compressor):
    given = documents()
    assert _ids(compressor.compress_documents(tuple(given), QUERY)) == _ids(compressor.compress_documents(given, QUERY))
    assert isinstance(compressor.compress_documents((d for d in given), QUERY), list)


def test_scores_are_json_and_the_retrieval_score_is_kept():
    given = numbered(3, 2, 1, 0)
    for document, score in zip(given, [np.float32(0.5), float("nan"), np.float32("inf"), "no score"], strict=True):
        document.metadata["retrieval_score"] = score
    found = BioRerankCompressor(model=by_number(), top_n=None).compress_documents(given, "q")
    assert [d.metadata.get("retrieval_score") for d in found] == [0.5, None, None, "no score"]
    assert "retrieval_score" not in found[1].metadata
    for document in found:
        assert type(document.metadata["relevance_score"]) is float
        json.dumps(document.metadata, allow_nan=False)
    assert type(found[0].metadata["retrieval_score"]) is float
    assert _scores(found) == pytest.approx([1 / (1 + math.exp(-x)) for x in (3, 2, 1, 0)], abs=1e-6)


def test_a_second_pass_keeps_the_retrieval_score_and_gives_the_same_scores(compressor):
    once = compressor.compress_documents(documents(), QUERY)
    twice = compressor.compress_documents(once, QUERY)
    assert [d.metadata for d in twice] == [d.metadata for d in once]


def test_ties_keep_their_order_and_documents_without_an_id_stay_without():
    given = [Document(page_content=f"{logit} text", metadata={"n": n}) for n, logit in enumerate([1, 2, 1, 2])]
    found = BioRerankCompressor(model=by_number(), top_n=None, deduplicate="id").compress_documents(given, "q")
    assert [d.metadata["n"] for d in found] == [1, 3, 0, 2]
    assert _ids(found) == [None] * 4


def test_a_document_without_an_id_is_not_taken_for_one_whose_id_is_a_number():
    given = [Document(id="1", page_content="1 text"), *numbered(2), Document(page_content="3 text")]
    given[1].id = None
    found = BioRerankCompressor(model=by_number(), top_n=None, deduplicate="id").compress_documents(given, "q")
    assert [d.page_content for d in found] == ["3 text", "2 text", "1 text"]


# What the model reads


def test_a_foreign_model_reads_the_text_alone():
    model = by_number()
    given = numbered(1, 2)
    for document in given:
        document.metadata.update({"title": "A title", "pmid": "17", "retrieval_score": 0.9})
    BioRerankCompressor(model=model).compress_documents(given, "the question")
    assert model.texts == ["1 text", "2 text"] and model.queries == ["the question"]


def test_a_model_with_a_template_reads_the_title_too(folder_with_settings):
    found = BioRerankCompressor(
        model=folder_with_settings, device="cpu", dtype="float32", top_n=None, fusion=None
    ).compress_documents(documents(), QUERY)
    with BioReranker(folder_with_settings, device="cpu", dtype="float32") as core:
        written = [f"{d.metadata['title']}: {d.page_content}" for d in found]
        assert _scores(found) == pytest.approx(core.score(QUERY, written), abs=1e-6)


@pytest.mark.parametrize("title", [None, "", 17])
def test_a_title_may_be_missing_or_a_number(folder_with_settings, title):
    given = [Document(id="a", page_content="p53", metadata={"title": title})]
    assert len(BioRerankCompressor(model=folder_with_settings, device="cpu").compress_documents(given, QUERY)) == 1


def test_a_template_of_the_caller_wins_and_reads_metadata():
    model = by_number()
    given = numbered(1)
    given[0].metadata.update({"Title": "From PubMed", "retrieval_score": 0.25, "relevance_score": 0.75})
    template = "{text} / {Title} {retrieval_score} {relevance_score}"  # the scores are never text
    BioRerankCompressor(model=model, template=template).compress_documents(given, "q")
    assert model.texts == ["1 text / From PubMed"]
    BioRerankCompressor(
        model=model, template=lambda passage: passage.text.upper(), query_prefix="Q: ", document_prefix="7 "
    ).compress_documents(given, "q")
    assert (model.texts[-1], model.queries[-1]) == ("7 1 TEXT", "Q: q")


def test_empty_and_long_texts_are_ranked(compressor):
    broken = Document.model_construct(id="none", page_content=None, metadata={})
    given = [
        Document(id="long", page_content="p53 tumours " * (INPUT // 12)),
        Document(id="", page_content=""),
        broken,
        Document(id="blank", page_content=" \n"),
    ]
    found = compressor.compress_documents(given, QUERY)
    assert {d.id for d in found} == {"long", "", "none", "blank"}
    assert all(math.isfinite(score) for score in _scores(found))
    by_id = {d.id: d.metadata["relevance_score"] for d in found}
    assert by_id["none"] == by_id[""]


# Settings


def test_the_defaults_are_those_of_the_class_it_stands_in_for():
    assert BioRerankCompressor().top_n == 3
    assert BioRerankCompressor(model=by_number()).compress_documents([], "q") == []
    assert len(BioRerankCompressor(model=by_number()).compress_documents(numbered(*range(10)), "q")) == 3
    assert len(BioRerankCompressor(model=by_number(), top_n=100).compress_documents(numbered(1, 2), "q")) == 2


def test_settings_of_a_call_may_be_set_later_and_those_of_loading_may_not():
    compressor = BioRerankCompressor(model=by_number())
    compressor.top_n = 1
    assert _ids(compressor.compress_documents(numbered(1, 2), "q")) == ["n1"]
    with pytest.raises(ValueError, match="got 0"):
        compressor.top_n = 0
    assert compressor.top_n == 1
    of_a_call = (
        *("top_n", "min_score", "min_probability", "evidence", "deduplicate", "fusion", "retracted", "boosts"),
        *("effort", "timeout"),
    )
    for name in BioRerankCompressor.model_fields.keys() - of_a_call:
        with pytest.raises(ValueError, match="frozen"):
            setattr(compressor, name, None)


def test_settings_that_are_not_given_are_those_of_the_core():
    given = BioRerankCompressor()
    core = inspect.signature(BioReranker).parameters
    shared = BioRerankCompressor.model_fields.keys() & core.keys()
    assert {name: getattr(given, name) for name in shared} == {name: core[name].default for name in shared}
    assert {"max_length", "query_max_length", "dtype", "backend"} <= shared


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_n": 0}, "top_n must be a whole number of at least 1, got 0"),
        ({"top_n": -1}, "got -1"),
        ({"top_n": True}, "got True"),
        ({"top_n": "5"}, "got '5'"),
        ({"top_n": 2.0}, "got 2.0"),
        ({"min_score": "high"}, "min_score must be a finite number, got 'high'"),
        ({"min_score": float("nan")}, "got nan"),
        ({"min_probability": 1.5}, "min_probability must be a finite number between 0 and 1, got 1.5"),
        ({"deduplicate": "name"}, "unknown key 'name'"),
        ({"fusion": "best"}, "got 'best'"),
        ({"fusion": -1}, "got -1"),
        ({"timeout": 0}, "timeout must be a number above 0, got 0"),
        ({"max_length": 0}, "max_length must be a whole number of at least 8, got 0"),
        ({"max_length": None}, "max_length"),
        ({"batch_size": False}, "batch_size must be a whole number of at least 1, got False"),
        ({"template": "no fields"}, "must contain {text}"),
        ({"top_k": 5}, "top_k"),
        ({"trust_remote_code": True}, "trust_remote_code"),
    ],
)
def test_impossible_settings_are_refused_when_they_are_given(settings, message):
    with pytest.raises(ValueError, match=message):
        BioRerankCompressor(model=by_number(), **settings)


def test_a_model_that_is_not_there_is_refused_at_once(tmp_path):
    for model in ("no-such-model", str(tmp_path / "nothing"), tmp_path):
        with pytest.raises(ModelError):
            BioRerankCompressor(model=model)


def test_thresholds():
    given = numbered(-2, 0, 2)
    assert len(BioRerankCompressor(model=by_number(), min_score=0.0).compress_documents(given, "q")) == 3
    assert _ids(BioRerankCompressor(model=by_number(), min_score=0.5).compress_documents(given, "q")) == [
        "n2",
        "n1",
    ]
    assert _ids(BioRerankCompressor(model=by_number(), min_probability=0.6).compress_documents(given, "q")) == ["n2"]
    assert BioRerankCompressor(model=by_number(), min_probability=1).compress_documents(given, "q") == []


def test_duplicates():
    texts = ["1 text", "3 other", "2 more", "1 TEXT."]
    metadata = [{"pmid": "17"}, {"pmid": 18}, {"pmid": 17}, {}]
    given = [
        Document(id=f"d{n % 3}", page_content=text, metadata=own)
        for n, (text, own) in enumerate(zip(texts, metadata, strict=True))
    ]

    def kept(keys):
        found = BioRerankCompressor(model=by_number(), top_n=None, deduplicate=keys).compress_documents(given, "q")
        return [d.page_content for d in found]

    assert kept(None) == kept([]) == ["3 other", "2 more", "1 text", "1 TEXT."]
    assert kept("id") == ["3 other", "2 more", "1 text"]
    assert kept("pmid") == ["3 other", "1 text", "1 TEXT."]
    assert kept(["pmid", "text"]) == ["3 other", "1 text"]


def test_the_stored_weight_of_the_first_stage_is_taken(folder_with_settings):
    given = documents(biorerank_first_stage="lexical")
    options = {"device": "cpu", "dtype": "float32"}
    core = BioReranker(folder_with_settings, **options)
    candidates = [
        Candidate(Passage(d.id, d.page_content, d.metadata["title"]), d.metadata["retrieval_score"], n, "lexical")
        for n, d in enumerate(given, start=1)
    ]
    for fusion in ("stored", None, 3.0):
        compressor = BioRerankCompressor(model=folder_with_settings, top_n=None, fusion=fusion, **options)
        expected = [line.passage.id for line in core.rank(QUERY, candidates, fusion=fusion)]
        assert _ids(compressor.compress_documents(given, QUERY)) == expected
    by_score = BioRerankCompressor(model=folder_with_settings, top_n=None, **options).compress_documents(given, QUERY)
    assert _ids(by_score) == _ids(given)  # the weight is so large that the first stage decides
    assert _scores(by_score) == sorted(_scores(by_score), reverse=True)  # what is shown follows the order
    of_other_scores = documents(biorerank_first_stage="dense of another encoder")
    by_model = BioRerankCompressor(model=folder_with_settings, top_n=None, **options).compress_documents(
        of_other_scores, QUERY
    )
    assert _scores(by_model) == sorted(_scores(by_model), reverse=True)


def test_batch_size_is_the_number_of_full_pairs_in_a_batch(tiny_cross_encoder_dir):
    options = {"device": "cpu", "dtype": "float32", "max_length": 64}
    found = BioRerankCompressor(model=tiny_cross_encoder_dir, batch_size=1, top_n=None, **options).compress_documents(
        documents(), QUERY
    )
    core = BioReranker(tiny_cross_encoder_dir, max_batch_tokens=64, **options).rank(QUERY, TEXTS)
    assert _scores(found) == [line.score for line in core]


def test_the_time_limit():
    with pytest.raises(ScoringTimeoutError):
        BioRerankCompressor(model=by_number(), timeout=1e-9).compress_documents(numbered(1), "q")


def test_the_token_is_neither_shown_nor_dumped_but_copied():
    compressor = BioRerankCompressor(token="hf_secret")
    assert "hf_secret" not in repr(compressor) + str(compressor) + str(compressor.model_dump())
    assert b"hf_secret" not in pickle.dumps(compressor)
    assert copy.deepcopy(compressor).token == "hf_secret"


def test_copies_and_pickles_do_the_same(compressor, tiny_cross_encoder_dir):
    expected = compressor.compress_documents(documents(), QUERY)
    others = [copy.deepcopy(compressor), pickle.loads(pickle.dumps(compressor)), compressor.model_copy()]
    others.append(BioRerankCompressor(**compressor.model_dump()))
    for other in others:
        assert other.compress_documents(documents(), QUERY) == expected
    changed = compressor.model_copy(update={"top_n": 2})
    assert len(changed.compress_documents(documents(), QUERY)) == 2


def test_a_plain_copy_shares_the_model_and_a_deep_one_does_not():
    compressor = BioRerankCompressor(model=by_number())
    shared, own = compressor.model_copy(), compressor.model_copy(deep=True)
    compressor.close()
    assert _ids(own.compress_documents(numbered(1), "q")) == ["n0"]
    with pytest.raises(RuntimeError, match="closed"):
        shared.compress_documents(numbered(1), "q")


def test_warm_up_and_close(tiny_cross_encoder_dir):
    compressor = BioRerankCompressor(model=tiny_cross_encoder_dir, device="cpu")
    compressor.warm_up()
    compressor.close()
    compressor.close()
    with pytest.raises(RuntimeError, match="closed"):
        compressor.compress_documents(documents(), QUERY)


# Models of LangChain


def test_a_cross_encoder_of_langchain_keeps_its_scores():
    found = BioRerankCompressor(model=Length(), top_n=None).compress_documents(documents(), QUERY)
    by_length = sorted(documents(), key=lambda document: -len(document.page_content))
    assert _ids(found) == _ids(by_length)
    assert _scores(found) == [float(len(document.page_content)) for document in by_length]
    assert BioRerankCompressor(model=Length()).compress_documents([], QUERY) == []


@pytest.mark.parametrize("threshold", ["min_score", "min_probability"])
def test_thresholds_are_refused_where_the_scale_is_not_known(threshold):
    with pytest.raises(ValueError, match=rf"{threshold}=0\.5.*BaseCrossEncoder"):
        BioRerankCompressor(model=Length(), **{threshold: 0.5})
    compressor = BioRerankCompressor(model=Length())
    with pytest.raises(ValueError, match=threshold):
        setattr(compressor, threshold, 0.5)


def test_a_cross_encoder_of_langchain_is_asked_by_one_thread_at_a_time():
    model = Length()
    compressor = BioRerankCompressor(model=model)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: compressor.compress_documents(documents(), QUERY), range(16)))
    assert model.most_inside == 1
    assert all(one == found[0] for one in found)


def test_scores_that_are_not_finite_name_the_document():
    with pytest.raises(ScoringError, match="n1"):
        BioRerankCompressor(model=by_number()).compress_documents(numbered(1, "nan", 2), "q")
    unnamed = [Document(page_content="1 text"), Document(page_content="nan text")]
    with pytest.raises(ScoringError, match="document 2"):
        BioRerankCompressor(model=by_number()).compress_documents(unnamed, "q")


# Async


def test_async_gives_the_same_bits(compressor):
    given = documents()
    assert asyncio.run(compressor.acompress_documents(given, QUERY)) == compressor.compress_documents(given, QUERY)


def test_async_does_not_block_the_loop():
    model = by_number(seconds=0.1)
    compressor = BioRerankCompressor(model=model)

    async def main():
        return await ticks_during(
            asyncio.gather(*(compressor.acompress_documents(numbered(1, 2, n), "q") for n in range(4)))
        )

    found, woke_up = asyncio.run(main())
    assert [len(one) for one in found] == [3] * 4
    assert woke_up >= 10
    assert threading.get_ident() not in model.threads


@pytest.mark.parametrize("query", [None, "", " \n\t"])
@pytest.mark.parametrize("given", [[], numbered(1)])
def test_a_blank_query_is_refused(query, given):
    compressor = BioRerankCompressor(model=by_number())
    with pytest.raises(ValueError, match="query"):
        compressor.compress_documents(given, query)
    with pytest.raises(ValueError, match="query"):
        asyncio.run(compressor.acompress_documents(given, query))


@pytest.mark.parametrize("given", [None, "text", Document(page_content="x"), ["text"], [None], [*numbered(1), 3]])
def test_something_else_than_documents_is_refused(given):
    compressor = BioRerankCompressor(model=by_number())
    with pytest.raises(TypeError, match="documents"):
        compressor.compress_documents(given, "q")
    with pytest.raises(TypeError, match="documents"):
        asyncio.run(compressor.acompress_documents(given, "q"))


def test_a_query_of_another_type_is_refused():
    with pytest.raises(TypeError, match="dict"):
        BioRerankCompressor(model=by_number()).compress_documents([], {"query": "q"})
