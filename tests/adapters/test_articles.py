"""Retracted articles and boosts through every host: as in the core, and told apart from the score."""

from __future__ import annotations

import math

import pytest
from support.scorers import by_number

from biorerank_plugins import BioReranker, Boosts, Passage
from biorerank_plugins.haystack import BioRanker
from biorerank_plugins.langchain import BioRerankCompressor
from biorerank_plugins.llama_index import BioRerankPostprocessor

QUERY = "is p53 a tumour suppressor"
ARTICLES = [
    ("old", "1.0 an old article", {"year": 1990}),
    ("withdrawn", "3.0 a withdrawn one", {"retracted": True, "year": 2020}),
    ("new", "0.5 a new meta-analysis", {"year": 2026, "publication_types": ["Meta-Analysis"]}),
]
BOOSTS = {"publication_types": {"Meta-Analysis": 1.0}, "reference_year": 2026}


def _haystack(**options):
    from haystack import Document

    documents = [Document(id=name, content=text, meta=dict(meta)) for name, text, meta in ARTICLES]
    ranked = BioRanker(model=by_number(), template="{text}", **options).run(query=QUERY, documents=documents)[
        "documents"
    ]
    return [(one.id, one.meta, one.score) for one in ranked]


def _langchain(**options):
    from langchain_core.documents import Document

    documents = [Document(id=name, page_content=text, metadata=dict(meta)) for name, text, meta in ARTICLES]
    ranked = BioRerankCompressor(model=by_number(), template="{text}", **options).compress_documents(documents, QUERY)
    return [(one.id, one.metadata, one.metadata["relevance_score"]) for one in ranked]


def _llama_index(**options):
    from llama_index.core.schema import NodeWithScore, TextNode

    nodes = [NodeWithScore(node=TextNode(id_=name, text=text, metadata=dict(meta))) for name, text, meta in ARTICLES]
    ours = BioRerankPostprocessor(model=by_number(), template="{text}", top_n=3, **options)
    ranked = ours.postprocess_nodes(nodes, query_str=QUERY)
    return [(one.node.node_id, one.node.metadata, one.score) for one in ranked]


HOSTS = pytest.mark.parametrize("rank", [_haystack, _langchain, _llama_index])


def _core(**options):
    passages = [Passage(name, text, metadata=meta) for name, text, meta in ARTICLES]
    return BioReranker(by_number(), template="{text}").rank(QUERY, passages, **options)


@HOSTS
def test_by_default_nothing_is_said_and_all_are_kept(rank):
    found = rank()
    assert [name for name, _, _ in found] == ["withdrawn", "old", "new"]
    assert not any(key.startswith("biorerank_") for _, metadata, _ in found for key in metadata)


@HOSTS
def test_retracted_articles_are_marked_or_left_out(rank):
    marked = {name: metadata.get("biorerank_retracted") for name, metadata, _ in rank(retracted="flag")}
    assert marked == {"withdrawn": True, "old": None, "new": None}
    assert [name for name, _, _ in rank(retracted="drop")] == ["old", "new"]


@HOSTS
@pytest.mark.parametrize("boosts", [BOOSTS, Boosts(**BOOSTS)])
def test_boosts_change_the_order_and_what_is_shown_of_it(rank, boosts):
    found = rank(boosts=boosts)
    expected = _core(boosts=Boosts(**BOOSTS))
    assert [name for name, _, _ in found] == [line.passage.id for line in expected] == ["withdrawn", "new", "old"]
    assert [score for _, _, score in found] == pytest.approx([1 / (1 + math.exp(-x)) for x in (3.0, 0.5 + 1.0, 1.0)])
    assert [metadata.get("biorerank_boost") for _, metadata, _ in found] == [None, 1.0, None]


@HOSTS
def test_impossible_settings_are_refused(rank):
    with pytest.raises(ValueError, match="retracted='hide' is unknown"):
        rank(retracted="hide")
    with pytest.raises(ValueError, match="boosts: half_life unknown"):
        rank(boosts={"half_life": 3})
    with pytest.raises((TypeError, ValueError), match="boosts must be Boosts"):
        rank(boosts=5)


def test_the_settings_are_saved():
    boosts, retracted = Boosts(**BOOSTS), "drop"
    haystack = BioRanker.from_dict(BioRanker(boosts=boosts, retracted=retracted).to_dict())
    llama_index = BioRerankPostprocessor.from_dict(BioRerankPostprocessor(boosts=boosts, retracted=retracted).to_dict())
    for saved in (haystack, llama_index):
        assert (Boosts(**saved.boosts), saved.retracted) == (boosts, retracted)


def test_no_model_reads_the_marks_again():
    from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode

    node = TextNode(text="1.0 x", metadata={"retracted": True, "year": 2020})
    ours = BioRerankPostprocessor(model=by_number(), template="{text}", retracted="flag")
    (marked,) = ours.postprocess_nodes([NodeWithScore(node=node)], query_str=QUERY)
    for mode in (MetadataMode.EMBED, MetadataMode.LLM):
        assert "biorerank_retracted" not in marked.node.get_content(metadata_mode=mode)
    (again,) = BioRerankPostprocessor(model=by_number(), template="{text}").postprocess_nodes([marked], query_str=QUERY)
    assert "biorerank_retracted" not in again.node.metadata
