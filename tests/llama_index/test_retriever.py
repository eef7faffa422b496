"""The retriever against the index it asks, LlamaIndex's own filters, and LlamaIndex's fusion of several retrievers."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.llms import MockLLM
from llama_index.core.retrievers import BaseRetriever, QueryFusionRetriever
from llama_index.core.schema import (
    ImageNode,
    IndexNode,
    MetadataMode,
    NodeRelationship,
    NodeWithScore,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.types import FilterOperator
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from biorerank_plugins import BiEncoder, Passage, PassageIndex
from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.llama_index import BioRerankPostprocessor, BioRetriever

QUERY = "is p53 a tumour suppressor"
TEXTS = [
    "aspirin inhibits platelets",
    "p53 suppresses tumours",
    "the heart and the liver",
    "p53 is a tumour suppressor gene",
    "insulin lowers glucose in patients with diabetes",
    "metformin lowers glucose",
    "brca1 is a tumour suppressor gene",
    "the kidney",
]


@pytest.fixture(scope="module")
def encoder(tiny_encoder_dir: Path) -> BiEncoder:
    return BiEncoder(tiny_encoder_dir, device="cpu", dtype="float32")


def make_nodes() -> list[TextNode]:
    return [
        TextNode(
            id_=f"n{i}",
            text=text,
            metadata={"title": f"title {i}", "year": 2000 + i, "mesh": ["a", "b"][: i % 3], "doc_id": f"PMC{i}"},
            excluded_llm_metadata_keys=["mesh"],
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"source {i}")},
            start_char_idx=i,
        )
        for i, text in enumerate(TEXTS)
    ]


@pytest.fixture(scope="module")
def index(encoder: BiEncoder) -> PassageIndex:
    return BioRetriever.from_nodes(make_nodes(), encoder=encoder).index


def ids(nodes) -> list[str]:
    return [one.node.node_id for one in nodes]


def same_node(found: TextNode, given: TextNode) -> bool:
    return found.to_dict() == given.to_dict() and type(found) is type(given)


@pytest.mark.parametrize("first_stage", ["hybrid", "dense", "lexical"])
def test_it_finds_what_the_index_finds(index, first_stage):
    expected = index.search(QUERY, 5, first_stage=first_stage)
    found = BioRetriever(index, 5, first_stage=first_stage).retrieve(QUERY)
    assert [(one.node_id, one.score) for one in found] == [(c.passage.id, c.score) for c in expected]
    assert all(type(one.score) is float for one in found)


def test_a_higher_score_is_better(index, encoder):
    """The oracle: the inner products, worked out here."""
    passages = [Passage(f"n{i}", text, f"title {i}") for i, text in enumerate(TEXTS)]
    products = encoder.encode_passages(passages) @ encoder.encode_queries([QUERY])[0]
    found = BioRetriever(index, len(TEXTS), first_stage="dense").retrieve(QUERY)
    assert ids(found) == [f"n{i}" for i in np.argsort(-products)]
    assert [one.score for one in found] == pytest.approx(sorted(products.tolist(), reverse=True), abs=1e-5)


def test_nodes_come_back_as_they_were(index, encoder, tmp_path):
    given = {node.node_id: node for node in make_nodes()}
    index.save(tmp_path / "index")
    for retriever in (
        BioRetriever(index, 8),
        BioRetriever(tmp_path / "index", 8),
        BioRetriever(str(tmp_path / "index"), 8),
    ):
        found = retriever.retrieve(QUERY)
        assert sorted(ids(found)) == sorted(given)
        assert all(same_node(one.node, given[one.node_id]) for one in found)
        json.dumps([one.to_dict() for one in found], allow_nan=False)
    found[0].node.metadata["year"] = 0
    assert same_node(retriever.retrieve(QUERY)[0].node, given[found[0].node_id])


def test_nodes_that_go_in_are_not_changed(encoder):
    nodes, target = make_nodes(), TextNode(text="what it points to")
    nodes.append(IndexNode(id_="index", text="p53", index_id="i", obj=target))
    before = [node.to_dict() for node in nodes[:-1]]
    BioRetriever.from_nodes(nodes, encoder=encoder).retrieve(QUERY)
    assert [node.to_dict() for node in nodes[:-1]] == before
    assert nodes[-1].obj is target


def test_passages_that_never_were_nodes(encoder):
    passages = [
        Passage("1", "p53 suppresses tumours", "p53", {"pmid": "7", "mesh": ["a", {"b": 1}]}),
        Passage("2", "x"),
    ]
    found = BioRetriever(PassageIndex.build(passages, encoder=encoder)).retrieve("p53")
    by_id = {one.node_id: one.node for one in found}
    assert by_id["1"].metadata == {"title": "p53", "pmid": "7", "mesh": ["a", {"b": 1}]}
    assert by_id["1"].text == "p53 suppresses tumours"
    assert (by_id["2"].metadata, by_id["2"].text) == ({}, "x")


def test_what_an_index_node_points_to_is_asked(encoder, index):
    nodes = [
        *make_nodes(),
        IndexNode(id_="more", text="p53 tumour suppressor", index_id="i", obj=BioRetriever(index, 1)),
    ]
    found = BioRetriever.from_nodes(nodes, encoder=encoder, similarity_top_k=1, first_stage="lexical").retrieve(QUERY)
    assert ids(found) == ids(BioRetriever(index, 1).retrieve(QUERY))


def test_a_score_of_an_earlier_question_does_not_come_back(encoder, shared_words):
    nodes = [NodeWithScore(node=node, score=9.0) for node in make_nodes()]
    kept = BioRerankPostprocessor(shared_words, top_n=8).postprocess_nodes(nodes, query_str="glucose")
    found = BioRetriever.from_nodes([one.node for one in kept], encoder=encoder).retrieve(QUERY)
    assert not any("retrieval_score" in one.metadata for one in found)


def test_defaults_and_what_may_be_changed(index):
    retriever = BioRetriever(index)
    assert isinstance(retriever, BaseRetriever)
    assert (retriever.similarity_top_k, retriever.first_stage) == (10, "hybrid")
    retriever.similarity_top_k = 3
    assert len(retriever.retrieve(QUERY)) == 3


def test_an_index_without_words_is_searched_by_vectors(encoder):
    retriever = BioRetriever.from_nodes(make_nodes(), encoder=encoder, lexical=False)
    assert retriever.first_stage == "dense"
    with pytest.raises(PassageIndexError, match="lexical"):
        BioRetriever(retriever.index, first_stage="lexical")


# Filters


MESH = ["heart", "liver", "kidney"]
JOURNALS = ["BMJ", "Lancet", "Nature", "Straße Β", ""]
metadata = st.fixed_dictionaries(
    {},
    optional={
        "year": st.integers(2000, 2005) | st.none(),
        "share": st.sampled_from([0.0, 0.5, 1.0]),
        "journal": st.sampled_from(JOURNALS),
        "title": st.sampled_from(JOURNALS),
        "mesh": st.lists(st.sampled_from(MESH), max_size=3),
    },
)
one_filter = st.one_of(
    st.builds(
        MetadataFilter,
        key=st.sampled_from(["year", "share"]),
        operator=st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
        value=st.integers(2000, 2005) | st.sampled_from([0.0, 0.5]),
    ),
    st.builds(
        MetadataFilter,
        key=st.sampled_from(["journal", "title"]),
        operator=st.sampled_from(["==", "!=", "<", ">="]),
        value=st.sampled_from(JOURNALS),
    ),
    st.builds(
        MetadataFilter,
        key=st.sampled_from(["journal", "title"]),
        operator=st.sampled_from(["in", "nin"]),
        value=st.lists(st.sampled_from(JOURNALS), max_size=2),
    ),
    st.builds(
        MetadataFilter,
        key=st.just("mesh"),
        operator=st.sampled_from(["any", "all"]),
        value=st.lists(st.sampled_from(MESH), min_size=1, max_size=2),
    ),
    st.builds(MetadataFilter, key=st.just("mesh"), operator=st.just("contains"), value=st.sampled_from(MESH)),
    st.builds(
        MetadataFilter,
        key=st.sampled_from(["journal", "title"]),
        operator=st.sampled_from(["text_match", "text_match_insensitive"]),
        value=st.sampled_from(["a", "N", "LANCET", "bm", "ß", "STRASSE", "β", ""]),
    ),
    st.builds(
        MetadataFilter,
        key=st.sampled_from(["year", "journal", "title", "mesh"]),
        operator=st.just("is_empty"),
        value=st.none(),
    ),
)
filters = st.builds(
    MetadataFilters, filters=st.lists(one_filter, max_size=3), condition=st.sampled_from(["and", "or", "not"])
)


@settings(max_examples=60)
@given(st.lists(metadata, min_size=1, max_size=6), filters)
def test_filters_hold_as_in_llama_indexs_own_store(drawn, wanted):
    nodes = {f"n{i}": TextNode(id_=f"n{i}", text="p53", metadata=one) for i, one in enumerate(drawn)}
    holds = build_metadata_filter_fn(lambda id_: nodes[id_].metadata, wanted)
    index = BioRetriever.from_nodes(nodes.values(), encoder=Constant(), lexical=False).index
    assert set(ids(BioRetriever(index, filters=wanted).retrieve("p53"))) == {id_ for id_ in nodes if holds(id_)}


class Constant:
    """An encoder to which everything is the same."""

    dimension = 2
    model_id = "constant"
    content_hash = "0"

    def encode_queries(self, queries):
        return np.ones((len(queries), 2), dtype=np.float32)

    encode_passages = encode_queries

    def config(self):
        return {"type": "Constant"}


def of(*filters, condition="and") -> MetadataFilters:
    return MetadataFilters(filters=list(filters), condition=condition)


def that(key, operator, value) -> MetadataFilter:
    return MetadataFilter(key=key, operator=operator, value=value)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (of(that("year", ">=", 2006)), {"n6", "n7"}),
        (of(that("doc_id", "==", "PMC3")), {"n3"}),
        (of(that("title", "in", ["title 1", "title 2"]), that("year", "!=", 2001)), {"n2"}),
        (of(of(that("year", "<", 2001)), of(that("year", ">", 2006)), condition="or"), {"n0", "n7"}),
        (
            of(of(that("mesh", "contains", "a"), that("year", ">", 2002)), condition="not"),
            {"n0", "n1", "n2", "n3", "n6"},
        ),
        (of(that("year", "in", [])), set()),
        (of(), {f"n{i}" for i in range(8)}),
        (None, {f"n{i}" for i in range(8)}),
    ],
)
def test_filters_nested_and_plain(index, wanted, expected):
    assert set(ids(BioRetriever(index, 8, filters=wanted).retrieve(QUERY))) == expected


def test_filters_come_before_top_k(index):
    worst = BioRetriever(index, 8).retrieve(QUERY)[-1].node_id
    wanted = of(that("doc_id", "==", f"PMC{worst[1:]}"))
    for first_stage in ("hybrid", "dense"):
        assert ids(BioRetriever(index, 1, filters=wanted, first_stage=first_stage).retrieve(QUERY)) == [worst]


def test_a_title_of_a_passage_is_a_field(encoder):
    index = PassageIndex.build([Passage("1", "x", "A"), Passage("2", "x", "B")], encoder=encoder)
    assert ids(BioRetriever(index, filters=of(that("title", "==", "B"))).retrieve("x")) == ["2"]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (that("journal", "text_match", 3), "'substring' and 'isubstring' .* need a string, got 3"),
        (that("journal", "==", None), "'journal' with '==' needs a string or a number, got None"),
        (that("journal", "==", ["a"]), r"got \['a'\]"),
        (that("journal", "in", "abc"), "'in' needs a list of values, got 'abc'"),
        (that("journal", "any", []), r"at least one value, got \[\]"),
        (that("year", "==", float("nan")), "nan"),
        (that('a"b', "==", 1), "no field"),
        (of(), "holds no filter"),
    ],
)
def test_a_filter_that_cannot_be_expressed_is_an_error(index, wanted, message):
    with pytest.raises(ValueError, match=message):
        BioRetriever(index, filters=of(wanted))


def test_every_operator_of_the_installed_version_is_known_or_refused(index):
    for operator in FilterOperator:
        value = ["a"] if operator.value in ("in", "nin", "any", "all") else "a"
        try:
            BioRetriever(index, filters=of(that("journal", operator, value))).retrieve(QUERY)
        except ValueError as error:
            assert f"{operator.value!r} cannot be expressed" in str(error)


# Async


def test_async_finds_the_same(index):
    retriever = BioRetriever(index, 5)
    expected = retriever.retrieve(QUERY)

    async def many():
        return await asyncio.gather(*(retriever.aretrieve(QUERY) for _ in range(6)))

    for found in asyncio.run(many()):
        assert [(one.node_id, one.score) for one in found] == [(one.node_id, one.score) for one in expected]


def test_the_event_loop_goes_on_during_a_search():
    class Sleepy(Constant):
        def encode_queries(self, queries):
            time.sleep(0.3)
            return super().encode_queries(queries)

    retriever = BioRetriever.from_nodes(make_nodes(), encoder=Sleepy(), lexical=False)

    async def longest_pause() -> float:
        task = asyncio.create_task(retriever.aretrieve(QUERY))
        longest, last = 0.0, time.perf_counter()
        while not task.done():
            await asyncio.sleep(0.005)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
        await task
        return longest

    assert asyncio.run(longest_pause()) < 0.15, "the encoder sleeps for 0.3 seconds"


def test_spans_and_events(index, recorder, spans):
    asyncio.run(BioRetriever(index).aretrieve(QUERY))
    BioRetriever(index).retrieve(QUERY)
    assert recorder.names() == ["RetrievalStartEvent", "RetrievalEndEvent"] * 2
    assert [one.split("-")[0].split(".")[1] for one in spans.ended] == [
        "_aretrieve",
        "aretrieve",
        "_retrieve",
        "retrieve",
    ]
    with pytest.raises(ValueError, match="empty"):
        BioRetriever(index).retrieve(" ")
    assert len(spans.dropped) == 2


# Beside other retrievers, and before the reranker


@pytest.mark.parametrize("mode", ["reciprocal_rerank", "relative_score", "dist_based_score", "simple"])
@pytest.mark.parametrize("use_async", [False, True])
def test_query_fusion(index, mode, use_async):
    parts = [BioRetriever(index, 4, first_stage="dense"), BioRetriever(index, 4, first_stage="lexical")]
    fusion = QueryFusionRetriever(
        parts, llm=MockLLM(), mode=mode, num_queries=1, similarity_top_k=8, use_async=use_async
    )
    found = fusion.retrieve(QUERY)
    wanted = {node_id for part in parts for node_id in ids(part.retrieve(QUERY))}
    assert sorted(ids(found)) == sorted(wanted), "a node that both find comes once"
    assert asyncio.run(fusion.aretrieve(QUERY)) == found
    if mode == "reciprocal_rerank":
        scores = dict.fromkeys(wanted, 0.0)
        for part in parts:
            for rank, node_id in enumerate(ids(part.retrieve(QUERY))):
                scores[node_id] += 1 / (rank + 60)
        assert {one.node_id: one.score for one in found} == pytest.approx(scores)


@pytest.fixture
def weighing_dir(tiny_cross_encoder_dir: Path, tmp_path: Path) -> Path:
    """A reranker that stores a weight for the scores of BM25, large enough that they alone decide."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_cross_encoder_dir, folder)
    (folder / "biorerank.json").write_text('{"template": "{title}. {text}", "fusion": {"lexical": 1e6}}')
    return folder


def test_the_reranker_weighs_the_first_stage_in_as_its_folder_says(index, weighing_dir):
    retriever = BioRetriever(index, 8, first_stage="lexical")
    found = retriever.retrieve(QUERY)
    assert len({one.score for one in found}) == len(found) > 2
    by_logit = BioRerankPostprocessor(weighing_dir, device="cpu", dtype="float32", top_n=8, fusion=None)
    stored = BioRerankPostprocessor(weighing_dir, device="cpu", dtype="float32", top_n=8)
    logits = ids(by_logit.postprocess_nodes(found, query_str=QUERY))
    assert logits != ids(found)
    fused = stored.postprocess_nodes(found, query_str=QUERY)
    assert ids(fused) == ids(found)
    assert ids(stored.postprocess_nodes(list(reversed(fused)), query_str=QUERY)) == ids(found), "a second pass too"
    dense = BioRetriever(index, 8, first_stage="dense").retrieve(QUERY)
    assert ids(stored.postprocess_nodes(dense, query_str=QUERY)) != ids(dense), "no weight is stored for these"


def test_scores_that_another_component_made_are_not_weighed(index, weighing_dir):
    fusion = QueryFusionRetriever(
        [BioRetriever(index, 8, first_stage="lexical")], llm=MockLLM(), mode="reciprocal_rerank", num_queries=1,
        similarity_top_k=8,
    )  # fmt: skip
    found = fusion.retrieve(QUERY)
    stored = BioRerankPostprocessor(weighing_dir, device="cpu", dtype="float32", top_n=8)
    by_logit = BioRerankPostprocessor(weighing_dir, device="cpu", dtype="float32", top_n=8, fusion=None)
    reranked = stored.postprocess_nodes(found, query_str=QUERY)
    assert ids(reranked) == ids(by_logit.postprocess_nodes(found, query_str=QUERY))
    assert {one.metadata["retrieval_score"] for one in reranked} == {one.score for one in found}


def test_nothing_about_the_first_stage_is_in_the_text(index):
    for one in BioRetriever(index).retrieve(QUERY):
        assert set(one.metadata) == {"title", "year", "mesh", "doc_id"}
        assert "biorerank" not in one.get_content(MetadataMode.ALL)


# Bad input


@pytest.mark.parametrize("top_k", [0, -1, True, "5", 1.5, None])
def test_a_top_k_that_makes_no_sense(index, top_k):
    with pytest.raises(ValueError, match=rf"similarity_top_k.*{top_k!r}"):
        BioRetriever(index, top_k)
    retriever = BioRetriever(index)
    with pytest.raises(ValueError, match=rf"similarity_top_k.*{top_k!r}"):
        retriever.similarity_top_k = top_k


def test_other_arguments_that_make_no_sense(index, tmp_path, encoder):
    with pytest.raises(ValueError, match="first_stage='sparse'"):
        BioRetriever(index, first_stage="sparse")
    with pytest.raises(PassageIndexError):
        BioRetriever(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"'image'.*has no text"):
        BioRetriever.from_nodes([ImageNode(id_="image")], encoder=encoder)
    with pytest.raises(ValueError, match=r"'n0'.*already"):
        BioRetriever.from_nodes([*make_nodes(), *make_nodes()], encoder=encoder)
    with pytest.raises(ValueError, match=r"node 'n'.*JSON"):
        BioRetriever.from_nodes([TextNode(id_="n", text="x", metadata={"a": np.arange(3)})], encoder=encoder)
    with pytest.raises(PassageIndexError, match="empty"):
        BioRetriever.from_nodes([], encoder=encoder)


def test_no_query(index):
    for query in (" ", QueryBundle(""), QueryBundle(None)):
        with pytest.raises(ValueError, match="query"):
            BioRetriever(index).retrieve(query)


def test_texts_that_are_embedded_in_its_place_are_named(index, caplog):
    """LlamaIndex's HyDE gives such."""
    found = BioRetriever(index).retrieve(QueryBundle(QUERY, custom_embedding_strs=["other"]))
    assert ids(found) == ids(BioRetriever(index).retrieve(QUERY))
    assert "custom_embedding_strs are not used" in caplog.text
