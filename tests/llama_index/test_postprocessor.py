"""The postprocessor against the core, LlamaIndex's own texts, and everything that a caller may get wrong."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import (
    Document,
    ImageNode,
    IndexNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeRelationship,
    NodeWithScore,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)

from biorerank_plugins import BioReranker, Passage
from biorerank_plugins.errors import ModelError, ScoringTimeoutError
from biorerank_plugins.llama_index import BioRerankPostprocessor
from biorerank_plugins.llama_index.nodes import FoundNode

QUERY = "is p53 a tumour suppressor"
TEXTS = [
    "aspirin inhibits platelets",
    "p53 suppresses tumours",
    "the heart and the liver",
    "p53 is a tumour suppressor gene",
    "insulin lowers glucose in patients with diabetes",
]


def make_nodes(texts=TEXTS, **fields) -> list[NodeWithScore]:
    return [
        NodeWithScore(
            node=TextNode(id_=f"n{i}", text=text, metadata={"pmid": str(i), "title": f"title {i}"}, **fields),
            score=0.9 - i / 10,
        )
        for i, text in enumerate(texts)
    ]


def ids(nodes) -> list[str]:
    return [one.node.node_id for one in nodes]


@pytest.fixture(scope="module")
def own_dir(tiny_cross_encoder_dir: Path, tmp_path_factory) -> Path:
    """The tiny cross-encoder as a folder that stores a template, like the embedded one."""
    folder = tmp_path_factory.mktemp("own") / "model"
    shutil.copytree(tiny_cross_encoder_dir, folder)
    (folder / "biorerank.json").write_text('{"template": "{title}. {text}"}')
    return folder


def make(model, **settings) -> BioRerankPostprocessor:
    return BioRerankPostprocessor(model=model, **{"device": "cpu", "dtype": "float32", "top_n": 10, **settings})


# Order, values, and the text that the model reads


def test_it_is_a_node_postprocessor():
    assert BaseNodePostprocessor.__name__ in [base.__name__ for base in BioRerankPostprocessor.__mro__]


def test_a_model_with_a_template_reads_title_and_text(own_dir):
    passages = [Passage(f"n{i}", text, f"title {i}") for i, text in enumerate(TEXTS)]
    expected = BioReranker(own_dir, device="cpu", dtype="float32").rank(QUERY, passages)
    found = make(own_dir).postprocess_nodes(make_nodes(), query_str=QUERY)
    assert ids(found) == [line.passage.id for line in expected]
    assert [one.score for one in found] == [line.score for line in expected]
    assert [one.metadata["retrieval_score"] for one in found] == [0.9 - line.input_index / 10 for line in expected]


def test_any_other_model_reads_the_embed_content(tiny_cross_encoder_dir):
    from sentence_transformers import CrossEncoder

    nodes = make_nodes(excluded_embed_metadata_keys=["pmid"])
    texts = [one.node.get_content(MetadataMode.EMBED) for one in nodes]
    assert texts[0] == "title: title 0\n\naspirin inhibits platelets"
    scores = CrossEncoder(str(tiny_cross_encoder_dir), device="cpu").predict([(QUERY, text) for text in texts])
    found = make(tiny_cross_encoder_dir).postprocess_nodes(nodes, query_str=QUERY)
    assert ids(found) == [f"n{i}" for i in np.argsort(-scores)]
    assert [one.score for one in found] == pytest.approx(sorted(scores.tolist(), reverse=True), abs=1e-5)


def test_a_template_of_the_caller_is_used(shared_words):
    reranker = BioRerankPostprocessor(shared_words, template="PMID {pmid}: {text}")
    reranker.postprocess_nodes(make_nodes(), query_str=QUERY)
    assert shared_words.texts == [f"PMID {i}: {text}" for i, text in enumerate(TEXTS)]


def test_a_title_that_is_excluded_from_embed_is_not_read(shared_words):
    reranker = BioRerankPostprocessor(shared_words, template="{title}. {text}")
    reranker.postprocess_nodes(make_nodes(["x"], excluded_embed_metadata_keys=["title"]), query_str=QUERY)
    reranker.postprocess_nodes(make_nodes(["x"]), query_str=QUERY)
    assert shared_words.texts == ["x", "title 0. x"]


def test_a_cross_encoder_object_is_a_model(tiny_cross_encoder_dir):
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(tiny_cross_encoder_dir), device="cpu")
    found = make(model).postprocess_nodes(make_nodes(), query_str=QUERY)
    again = make(tiny_cross_encoder_dir).postprocess_nodes(make_nodes(), query_str=QUERY)
    assert [(one.node_id, one.score) for one in found] == [(one.node_id, one.score) for one in again]


def test_top_n_is_two_unless_told_otherwise_and_may_be_changed(shared_words):
    reranker = BioRerankPostprocessor(shared_words)
    assert len(reranker.postprocess_nodes(make_nodes(), query_str=QUERY)) == 2
    reranker.top_n = 100
    assert len(reranker.postprocess_nodes(make_nodes(), query_str=QUERY)) == len(TEXTS)
    assert reranker.top_n == 100


def test_thresholds_and_duplicates(shared_words):
    nodes = make_nodes(["p53", "nothing", "p53.", "tumour suppressor p53"])
    sigmoid = {n: 1 / (1 + np.exp(-n)) for n in (0, 1, 3)}

    def found(**settings):
        return ids(BioRerankPostprocessor(shared_words, template="{text}", top_n=9, **settings).postprocess_nodes(
            nodes, query_str=QUERY
        ))  # fmt: skip

    assert found() == ["n3", "n0", "n2", "n1"]
    assert found(min_score=sigmoid[1] - 1e-6) == ["n3", "n0", "n2"]
    assert found(min_probability=sigmoid[3] - 1e-6) == ["n3"]
    assert found(min_score=0.0, min_probability=0.0) == ["n3", "n0", "n2", "n1"]
    assert found(deduplicate="text") == ["n3", "n0", "n1"]
    assert found(deduplicate=("id", "text")) == ["n3", "n0", "n1"]


def test_a_time_limit_ends_the_call(tiny_cross_encoder_dir):
    reranker = make(tiny_cross_encoder_dir, timeout=1e-9, batch_size=1, max_length=16)
    with pytest.raises(ScoringTimeoutError):
        reranker.postprocess_nodes(make_nodes(TEXTS * 20), query_str=QUERY)


def test_the_batch_size_does_not_change_what_comes_out(tiny_cross_encoder_dir):
    nodes = make_nodes(TEXTS * 8)
    whole = make(tiny_cross_encoder_dir, top_n=40).postprocess_nodes(nodes, query_str=QUERY)
    single = make(tiny_cross_encoder_dir, top_n=40, batch_size=1).postprocess_nodes(nodes, query_str=QUERY)
    by_id = {one.node_id: one.score for one in single}
    assert [one.score for one in whole] == pytest.approx([by_id[one.node_id] for one in whole], abs=1e-4)


# What goes in stays as it is; what comes out is plain


def test_nothing_of_the_callers_is_changed(shared_words):
    nodes = make_nodes()
    nodes[0].node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id="doc")
    given, inner, before = list(nodes), [one.node for one in nodes], [one.model_dump_json() for one in nodes]
    for keep in (True, False):
        found = BioRerankPostprocessor(shared_words, top_n=9, keep_retrieval_score=keep).postprocess_nodes(
            nodes, query_str=QUERY
        )
        for one in found:
            one.score = 5.0
            one.node.metadata["new"] = 1
            one.node.excluded_embed_metadata_keys.append("new")
            one.node.excluded_llm_metadata_keys.append("new")
            one.node.relationships[NodeRelationship.NEXT] = RelatedNodeInfo(node_id="next")
    assert all(a is b for a, b in zip(nodes, given, strict=True))
    assert all(one.node is node for one, node in zip(nodes, inner, strict=True))
    assert [one.model_dump_json() for one in nodes] == before


def test_every_kind_of_node_keeps_its_kind_and_none_is_lost(shared_words):
    target = object()
    nodes = [
        NodeWithScore(node=TextNode(id_="empty", text="")),
        NodeWithScore(node=ImageNode(id_="image", image_url="https://example.org/cell.png")),
        NodeWithScore(node=Node(id_="no text", image_resource=MediaResource(data=b"png"))),
        NodeWithScore(node=Node(id_="none", text_resource=MediaResource(text=None))),
        NodeWithScore(node=IndexNode(id_="index", text="p53", index_id="i", obj=target)),
        NodeWithScore(node=Document(id_="document", text="tumour suppressor p53")),
        NodeWithScore(node=TextNode(id_="", text="p53 without name")),
    ]
    for template in (None, "{title}. {text}"):
        found = BioRerankPostprocessor(shared_words, top_n=9, template=template).postprocess_nodes(
            nodes, query_str=QUERY
        )
        assert ids(found) == ["document", "index", "", "empty", "image", "no text", "none"]
        assert [type(one.node) for one in found][:2] == [Document, IndexNode]
        assert found[1].node.obj is target


def test_metadata_of_any_kind(shared_words):
    metadata = {"n": 1, "f": 0.5, "none": None, "list": [1, ["x"]], "map": {"a": 1}, "array": np.arange(2), "title": 7}
    one = NodeWithScore(node=TextNode(text="p53", metadata=metadata))
    [found] = BioRerankPostprocessor(shared_words, template="{title}. {text}").postprocess_nodes([one], query_str=QUERY)
    assert found.metadata is not metadata
    assert found.metadata == metadata
    assert shared_words.texts == ["7. p53"]


@pytest.mark.parametrize("score", [None, float("nan"), float("inf")])
def test_a_score_that_is_none_is_not_kept(shared_words, score):
    [found] = BioRerankPostprocessor(shared_words).postprocess_nodes(
        [NodeWithScore(node=TextNode(text="p53"), score=score)], query_str=QUERY
    )
    assert "retrieval_score" not in found.metadata
    json.dumps(found.to_dict(), allow_nan=False)


def test_values_are_plain_floats_and_json(shared_words):
    nodes = make_nodes()
    nodes[0].score = np.float32(0.5)
    found = BioRerankPostprocessor(shared_words, top_n=9).postprocess_nodes(nodes, query_str=QUERY)
    for one in found:
        assert type(one.score) is float
        assert type(one.metadata["retrieval_score"]) is float
        json.dumps(one.to_dict(), allow_nan=False)


# The retrieval score


def test_the_retrieval_score_is_read_by_no_model(shared_words):
    reranker = BioRerankPostprocessor(shared_words, top_n=9)
    found = reranker.postprocess_nodes(make_nodes(), query_str=QUERY)
    for one in found:
        assert one.metadata["retrieval_score"] == 0.9 - int(one.metadata["pmid"]) / 10
        for mode in (MetadataMode.EMBED, MetadataMode.LLM):
            assert "retrieval_score" not in one.node.get_content(mode)
            assert "pmid" in one.node.get_content(mode)
    again = BioRerankPostprocessor(shared_words, top_n=9).postprocess_nodes(found, query_str="aspirin")
    assert not any("retrieval_score" in text for text in shared_words.texts)
    assert {one.node_id: one.metadata["retrieval_score"] for one in again} == {
        one.node_id: one.metadata["retrieval_score"] for one in found
    }
    assert all(one.node.excluded_embed_metadata_keys == ["retrieval_score"] for one in again)


def test_one_that_another_reranker_left_in_the_text_is_hidden(shared_words):
    node = TextNode(text="p53", metadata={"retrieval_score": 0.25})  # as SentenceTransformerRerank leaves it
    [found] = BioRerankPostprocessor(shared_words).postprocess_nodes(
        [NodeWithScore(node=node, score=0.99)], query_str=QUERY
    )
    assert shared_words.texts == ["p53"]
    assert found.metadata == {"retrieval_score": 0.25}
    assert found.node.get_content(MetadataMode.LLM) == "p53"
    assert node.excluded_embed_metadata_keys == []


def test_it_can_be_left_out(shared_words):
    reranker = BioRerankPostprocessor(shared_words, keep_retrieval_score=False)
    assert all("retrieval_score" not in one.metadata for one in reranker.postprocess_nodes(make_nodes(), query_str="x"))


def test_a_weight_brings_the_retrieval_score_into_the_order(shared_words):
    nodes = make_nodes(["p53 tumour", "p53", "tumour"])
    nodes[1].score, nodes[2].score = 3.0, None
    for weight, expected in ((0.0, ["n0", "n1", "n2"]), (0.9, ["n1", "n0", "n2"]), (None, ["n0", "n1", "n2"])):
        reranker = BioRerankPostprocessor(shared_words, template="{text}", top_n=9, fusion=weight)
        found = reranker.postprocess_nodes(nodes, query_str=QUERY)
        assert ids(found) == expected
        again = reranker.postprocess_nodes(found, query_str=QUERY)
        assert ids(again) == expected, "a second pass weighs the same scores"


@pytest.mark.parametrize(("shown", "fused"), [(0.6, True), (0.9, False), (0.55, False)])
def test_a_stored_weight_is_for_scores_of_its_first_stage_only(own_dir, tmp_path, shown, fused):
    """A weight so large that it decides alone; a score that another step put in the place of that one has none."""
    folder = shutil.copytree(own_dir, tmp_path / "model")
    (folder / "biorerank.json").write_text('{"template": "{title}. {text}", "fusion": {"words": 10000.0}}')
    reranker = make(folder)
    best, other = (one.node for one in reranker.postprocess_nodes(make_nodes(TEXTS[:2]), query_str=QUERY))
    given = [
        FoundNode(node=best, score=0.5, first_stage="words", first_stage_score=0.5),
        FoundNode(node=other, score=shown, first_stage="words", first_stage_score=0.6),
    ]
    for one in given:
        one.node.metadata.pop("retrieval_score", None)
    expected = [other, best] if fused else [best, other]
    assert ids(reranker.postprocess_nodes(given, query_str=QUERY)) == [node.node_id for node in expected]


# What LlamaIndex hears


def call(reranker, nodes, asynchronous, **query):
    if asynchronous:
        return asyncio.run(reranker.apostprocess_nodes(nodes, **query))
    return reranker.postprocess_nodes(nodes, **query)


both = pytest.mark.parametrize("asynchronous", [False, True])


@both
@pytest.mark.parametrize("nodes", [make_nodes(), []], ids=["nodes", "empty"])
def test_start_and_end_come_in_pairs(shared_words, recorder, spans, asynchronous, nodes):
    debug = LlamaDebugHandler(print_trace_on_end=False)
    reranker = BioRerankPostprocessor(shared_words, callback_manager=CallbackManager([debug]))
    found = call(reranker, nodes, asynchronous, query_str=QUERY)
    start, end = (event for event in recorder.seen if event.class_name().startswith("ReRank"))
    assert recorder.names() == ["ReRankStartEvent", "ReRankEndEvent"]
    assert (start.query.query_str, start.nodes, start.top_n, start.model_name) == (QUERY, nodes, 2, "ScriptedScorer")
    assert end.nodes == found
    assert (len(spans.ended), spans.dropped) == (1, [])
    [(first, last)] = debug.get_event_pairs(CBEventType.RERANKING)
    assert (first.payload[EventPayload.QUERY_STR], first.payload[EventPayload.TOP_K]) == (QUERY, 2)
    assert (first.payload[EventPayload.MODEL_NAME], first.payload[EventPayload.NODES]) == ("ScriptedScorer", nodes)
    assert last.payload[EventPayload.NODES] == found


@both
@pytest.mark.parametrize(
    ("query", "error"), [({"query_str": " "}, ValueError), ({}, ValueError), ({"query_str": QUERY}, ZeroDivisionError)]
)
def test_an_error_is_an_event_and_drops_the_span(recorder, spans, asynchronous, query, error):
    class Broken:
        def logits(self, query, texts):
            return [1 / 0]

    debug = LlamaDebugHandler(print_trace_on_end=False)
    reranker = BioRerankPostprocessor(Broken(), callback_manager=CallbackManager([debug]))
    with pytest.raises(error) as raised:
        call(reranker, make_nodes(["x"]), asynchronous, **query)
    assert recorder.names("ReRank") == ["ReRankStartEvent"]
    [event] = [event for event in recorder.seen if event.class_name() == "ExceptionEvent"]
    assert event.exception is raised.value
    assert (spans.ended, len(spans.dropped)) == ([], 1)
    assert all(len(pair) == 2 for pair in debug.get_event_pairs(CBEventType.RERANKING))


def test_the_name_of_the_model_is_known_without_loading_it(recorder):
    for model, name in ((None, "biorerank-minilm-l6"), ("owner/name", "owner/name")):
        with pytest.raises(ValueError, match="no query"):
            BioRerankPostprocessor(model).postprocess_nodes([])
        assert recorder.seen[0].model_name == name
        recorder.seen.clear()


# Settings


def test_settings_survive_saving(own_dir):
    reranker = BioRerankPostprocessor(
        model=own_dir,
        top_n=3,
        device=torch.device("cpu"),
        keep_retrieval_score=False,
        min_score=0.0,
        min_probability=0.0,
        retracted="drop",
        boosts={"recency_half_life_years": 4},
        evidence=1,
        deduplicate=("pmid", "text"),
        fusion=0.5,
        effort="auto",
        timeout=60,
        dtype=torch.float32,
        backend="torch",
        max_length=64,
        query_max_length=32,
        batch_size=4,
        template="{text}",
        query_prefix="q ",
        document_prefix="d ",
        revision="main",
        cache_folder=own_dir,
        local_files_only=True,
    )
    found = reranker.postprocess_nodes(make_nodes(), query_str=QUERY)
    saved = reranker.to_dict()
    assert json.loads(json.dumps(saved)) == saved
    fields = set(BioRerankPostprocessor.model_fields) - {"callback_manager", "token"}
    assert saved.keys() == {*fields, "class_name"}
    assert not [name for name in fields if saved[name] == BioRerankPostprocessor.model_fields[name].default]
    assert (saved["model"], saved["device"], saved["dtype"]) == (str(own_dir), "cpu", "float32")
    for again in (
        BioRerankPostprocessor.from_dict(saved),
        BioRerankPostprocessor.from_json(reranker.to_json()),
        pickle.loads(pickle.dumps(reranker)),
        copy.deepcopy(reranker),
        reranker.model_copy(),
    ):
        assert again.to_dict() == saved
        assert again.postprocess_nodes(make_nodes(), query_str=QUERY) == found
    assert "deduplicate" in saved


def test_a_token_is_never_saved():
    reranker = BioRerankPostprocessor("owner/name", token="secret")
    assert reranker.token == "secret"
    for text in (str(reranker.to_dict()), repr(reranker), repr(pickle.dumps(reranker))):
        assert "secret" not in text


@pytest.mark.parametrize("save", [lambda r: r.to_dict(), lambda r: r.to_json(), pickle.dumps])
def test_what_cannot_be_saved_says_what_to_pass_instead(save, tiny_cross_encoder_dir, shared_words):
    from sentence_transformers import CrossEncoder

    with pytest.raises(ValueError, match=r"CrossEncoder object.*pass the folder"):
        save(BioRerankPostprocessor(CrossEncoder(str(tiny_cross_encoder_dir), device="cpu")))
    with pytest.raises(ValueError, match="ScriptedScorer object"):
        save(BioRerankPostprocessor(shared_words))
    with pytest.raises(ValueError, match="Pass a format string"):
        save(BioRerankPostprocessor(template=lambda passage: passage.text))


def test_a_deep_copy_shares_the_callers_model(shared_words):
    found = copy.deepcopy(BioRerankPostprocessor(shared_words)).postprocess_nodes(make_nodes(), query_str=QUERY)
    assert len(found) == 2
    assert shared_words.texts


@pytest.mark.parametrize("top_n", [0, -1, True, "5", 1.5, None])
def test_a_top_n_that_makes_no_sense_is_an_error_that_names_it(shared_words, top_n):
    with pytest.raises(ValueError, match=rf"top_n must be a whole number of at least 1, got {top_n!r}"):
        BioRerankPostprocessor(shared_words, top_n=top_n)
    reranker = BioRerankPostprocessor(shared_words)
    with pytest.raises(ValueError, match="top_n"):
        reranker.top_n = top_n
    assert reranker.top_n == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_k": 3}, "top_k"),
        ({"min_score": float("nan")}, "min_score.*nan"),
        ({"min_probability": 1.5}, "min_probability.*1.5"),
        ({"deduplicate": "title"}, "unknown key 'title'"),
        ({"fusion": "saved"}, "'saved'"),
        ({"fusion": True}, "True"),
        ({"timeout": 0}, "timeout.*0"),
        ({"batch_size": 0}, "batch_size.*0"),
        ({"max_length": 4}, "max_length.*4"),
        ({"max_length": True}, "max_length"),
        ({"template": "{title}"}, r"must contain \{text\}"),
        ({"keep_retrieval_score": "yes"}, "keep_retrieval_score"),
        ({"trust_remote_code": True}, "never run"),
        ({"cross_encoder_kwargs": {"max_length": 64}, "max_length": 64}, "max_length: given twice"),
    ],
)
def test_a_setting_that_makes_no_sense_is_an_error(settings, message):
    with pytest.raises(ValueError, match=message):
        BioRerankPostprocessor(**settings)


def test_what_the_loaded_model_depends_on_cannot_be_changed(shared_words):
    reranker = BioRerankPostprocessor(shared_words)
    with pytest.raises(ValueError, match="frozen"):
        reranker.model = "biorerank-minilm-l6"


def test_the_model_is_loaded_when_it_is_needed(tmp_path, no_network, own_dir):
    BioRerankPostprocessor("owner/name")
    with pytest.raises(ModelError, match="no model 'nonsense'"):
        BioRerankPostprocessor("nonsense")
    shutil.copytree(own_dir, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(ModelError, match="Cannot load"):
        make(tmp_path / "model").warm_up()
    reranker = make(own_dir)
    reranker.warm_up()
    reranker.close()
    reranker.close()
    with pytest.raises(RuntimeError, match="closed"):
        reranker.postprocess_nodes(make_nodes(), query_str=QUERY)


# Bad input


@both
def test_no_query_is_an_error_even_for_no_nodes(shared_words, asynchronous):
    reranker = BioRerankPostprocessor(shared_words)
    for nodes in ([], make_nodes()):
        for query in ({}, {"query_str": ""}, {"query_str": " \n"}, {"query_bundle": QueryBundle(None)}):
            with pytest.raises(ValueError, match="query"):
                call(reranker, nodes, asynchronous, **query)
    with pytest.raises(ValueError, match="both query_str and query_bundle"):
        call(reranker, [], asynchronous, query_str=QUERY, query_bundle=QueryBundle(QUERY))


@both
def test_a_question_may_be_a_string(shared_words, asynchronous):
    """``RetrieverQueryEngine.retrieve("…")`` hands it on so."""
    assert len(call(BioRerankPostprocessor(shared_words), make_nodes(), asynchronous, query_bundle=QUERY)) == 2


@both
def test_none_and_one_and_the_same_node_twice(shared_words, asynchronous):
    reranker = BioRerankPostprocessor(shared_words)
    assert call(reranker, [], asynchronous, query_str=QUERY) == []
    [one] = make_nodes(["p53"])
    assert ids(call(reranker, [one], asynchronous, query_str=QUERY)) == ["n0"]
    assert ids(call(reranker, [one, one], asynchronous, query_str=QUERY)) == ["n0", "n0"]


def test_a_very_long_text(tiny_cross_encoder_dir):
    found = make(tiny_cross_encoder_dir).postprocess_nodes(make_nodes(["p53 " * 25_000, "p53"]), query_str=QUERY)
    assert len(found) == 2


# Threads and tasks


def test_async_gives_what_sync_gives(tiny_cross_encoder_dir):
    reranker = make(tiny_cross_encoder_dir)
    expected = reranker.postprocess_nodes(make_nodes(), query_str=QUERY)

    async def many():
        calls = (reranker.apostprocess_nodes(make_nodes(), query_str=QUERY) for _ in range(8))
        return await asyncio.gather(*calls)

    for found in asyncio.run(many()):
        assert [(one.node_id, one.score) for one in found] == [(one.node_id, one.score) for one in expected]


def test_the_event_loop_goes_on_while_the_model_works(slow):
    reranker = BioRerankPostprocessor(slow)

    async def longest_pause() -> float:
        task = asyncio.create_task(reranker.apostprocess_nodes(make_nodes(), query_str=QUERY))
        longest, last = 0.0, time.perf_counter()
        while not task.done():
            await asyncio.sleep(0.005)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
        await task
        return longest

    assert asyncio.run(longest_pause()) < 0.15, "the model sleeps for 0.3 seconds"


def test_it_works_beside_other_postprocessors(shared_words):
    found = BioRerankPostprocessor(shared_words, template="{text}", top_n=9).postprocess_nodes(
        make_nodes(), query_str=QUERY
    )
    cut = SimilarityPostprocessor(similarity_cutoff=0.7).postprocess_nodes(found)
    assert ids(cut) == ["n3", "n1"]
