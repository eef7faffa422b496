"""BioRetriever: what the index finds, as documents; over documents, a folder and an open index."""

from __future__ import annotations

import asyncio
import copy
import json
import time
from pathlib import Path

import pytest
from haystack import Document
from haystack.document_stores.types import FilterPolicy
from support.haystack import QUERY, documents, ids

from biorerank_plugins import BiEncoder, Passage, PassageIndex
from biorerank_plugins.adapters_common import FIRST_STAGE_KEY
from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.haystack import BioRetriever

KEY = "biorerank_retrieval_score"


@pytest.fixture(scope="module")
def encoder(tiny_encoder_dir: Path) -> BiEncoder:
    return BiEncoder(tiny_encoder_dir, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def index(encoder: BiEncoder) -> PassageIndex:
    return PassageIndex.build([Passage(one.id, one.content, metadata=one.meta) for one in documents()], encoder=encoder)


@pytest.mark.parametrize("first_stage", [None, "hybrid", "dense", "lexical"])
def test_it_finds_what_the_index_finds(index, encoder, first_stage):
    expected = index.search(QUERY, 4, first_stage=first_stage)
    for retriever in (
        BioRetriever(index, first_stage=first_stage, top_k=4),
        BioRetriever(documents=documents(), encoder=encoder, first_stage=first_stage, top_k=4),
    ):
        found = retriever.run(QUERY)["documents"]
        assert [(one.id, one.score) for one in found] == [(hit.passage.id, hit.score) for hit in expected]
        for one, hit in zip(found, expected, strict=True):
            assert one.content == hit.passage.text
            assert one.meta[KEY] == one.score and type(one.score) is float
            assert one.meta.get(FIRST_STAGE_KEY) == hit.first_stage
            source = next(given for given in documents() if given.id == one.id)
            assert {key: one.meta[key] for key in source.meta} == source.meta
        json.dumps([one.to_dict() for one in found], allow_nan=False)
        assert asyncio.run(retriever.run_async(QUERY)) == {"documents": found}
        assert ids(retriever.run(QUERY, top_k=1)) == [found[0].id]
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_titles_are_read_and_come_back(encoder):
    given = [
        Document(id="a", content="text", meta={"title": "p53", KEY: 9.0, FIRST_STAGE_KEY: "lexical"}),
        Document(id="b", content="text"),
        Document(id="c", content="text", meta={"title": 5}),
    ]
    before = copy.deepcopy(given)
    found = BioRetriever(documents=given, encoder=encoder, first_stage="lexical").run("p53")["documents"]
    assert [one.id for one in found] == ["a"]
    assert found[0].meta["title"] == "p53" and found[0].meta[KEY] != 9.0
    assert given == before
    everything = BioRetriever(documents=given, encoder=encoder).run("text")["documents"]
    assert {one.id: one.meta.get("title") for one in everything} == {"a": "p53", "b": None, "c": 5}
    passages = PassageIndex.build([Passage("x", "text", "A title")], encoder=encoder)
    assert BioRetriever(passages).run("text")["documents"][0].meta["title"] == "A title"


def test_changing_what_was_found_changes_nothing_in_the_index(index):
    retriever = BioRetriever(index)
    [first] = retriever.run(QUERY, top_k=1)["documents"]
    first.meta["tags"].append("mine")
    assert "mine" not in retriever.run(QUERY, top_k=1)["documents"][0].meta["tags"]


def test_filters_replace_or_are_merged(index):
    late = {"field": "meta.year", "operator": ">=", "value": 2003}
    not_d = {"field": "id", "operator": "!=", "value": "d"}
    replacing = BioRetriever(index, filters=late)
    assert set(ids(replacing.run(QUERY))) == {"d", "e", "f"}
    assert set(ids(replacing.run(QUERY, filters=not_d))) == {"a", "b", "c", "e", "f"}
    for policy in (FilterPolicy.MERGE, "merge"):
        merging = BioRetriever(index, filters=late, filter_policy=policy)
        assert set(ids(merging.run(QUERY, filters=not_d))) == {"e", "f"}


# Saved settings


def test_a_folder_is_saved_and_found_again(index, tmp_path):
    index.save(tmp_path / "index")
    late = {"field": "meta.year", "operator": ">=", "value": 2003}
    retriever = BioRetriever(tmp_path / "index", filters=late, top_k=2, first_stage="dense", filter_policy="merge")
    saved = retriever.to_dict()
    assert saved["type"] == "haystack_integrations.components.retrievers.biorerank.retriever.BioRetriever"
    assert json.loads(json.dumps(saved)) == saved
    again = BioRetriever.from_dict(saved)
    assert again.to_dict() == saved
    assert again.run(QUERY) == retriever.run(QUERY)
    # An open index that has a folder is saved as that folder.
    parameters = BioRetriever(index).to_dict()["init_parameters"]
    assert parameters["index"] == str(tmp_path / "index")


def test_an_encoder_by_name(tiny_encoder_dir, tmp_path):
    retriever = BioRetriever(documents=documents(), encoder=tiny_encoder_dir, top_k=1)
    assert len(retriever.run(QUERY)["documents"]) == 1
    assert BioRetriever(tmp_path, encoder="some/model").to_dict()["init_parameters"]["encoder"] == "some/model"


def test_what_cannot_be_saved_says_what_to_pass_instead(encoder, tmp_path):
    in_memory = PassageIndex.build(["p53"], encoder=encoder)
    for retriever in (BioRetriever(in_memory), BioRetriever(documents=documents())):
        with pytest.raises(ValueError, match="Save it to a folder"):
            retriever.to_dict()
    with pytest.raises(ValueError, match="encoder is an object, which cannot be saved"):
        BioRetriever(tmp_path, encoder=encoder).to_dict()


# Life


def test_closing_gives_back_what_it_opened_only(encoder, tmp_path):
    index = PassageIndex.build([Passage(one.id, one.content) for one in documents()], encoder=encoder)
    index.save(tmp_path / "index")
    for retriever in (BioRetriever(index), BioRetriever(tmp_path / "index", encoder=encoder)):
        retriever.warm_up()
        expected = retriever.run(QUERY)
        retriever.close()
        retriever.close()
        assert retriever.run(QUERY) == expected
    assert len(index.search(QUERY)) == len(documents())


def test_the_event_loop_runs_on_while_an_index_is_searched(index):
    class SlowEncoder:
        dimension, model_id, content_hash = index.encoder.dimension, "slow", "0"

        def config(self):
            return {"type": "Slow"}

        def encode_passages(self, passages):
            return index.encoder.encode_passages(passages)

        def encode_queries(self, queries):
            time.sleep(0.3)
            return index.encoder.encode_queries(queries)

    async def beats() -> int:
        count = 0
        running = asyncio.create_task(BioRetriever(documents=documents(), encoder=SlowEncoder()).run_async(QUERY))
        while not running.done():
            await asyncio.sleep(0.01)
            count += 1
        await running
        return count

    assert asyncio.run(beats()) >= 5


# Bad input


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({"query": None}, ValueError, "None"),
        ({"query": "  "}, ValueError, "empty"),
        ({"query": 5}, TypeError, "5"),
        ({"top_k": 0}, ValueError, "got 0"),
        ({"top_k": True}, ValueError, "got True"),
        ({"top_k": "5"}, ValueError, "got '5'"),
    ],
)
def test_bad_options_of_a_call_say_the_value_before_anything_is_loaded(tmp_path, call, error, message):
    retriever = BioRetriever(tmp_path / "nothing")
    with pytest.raises(error, match=message):
        retriever.run(**{"query": "q", **call})
    with pytest.raises(error, match=message):
        asyncio.run(retriever.run_async(**{"query": "q", **call}))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({}, ValueError, "either index .* or documents"),
        ({"index": "a", "documents": []}, ValueError, "either index .* or documents"),
        ({"index": "a", "top_k": -1}, ValueError, "got -1"),
        ({"index": "a", "first_stage": "both"}, ValueError, "first_stage='both'"),
        ({"index": "a", "filter_policy": "add"}, ValueError, "add"),
        ({"documents": ["text"]}, TypeError, "Document at position 0"),
    ],
)
def test_impossible_settings_are_refused_at_once(settings, error, message):
    with pytest.raises(error, match=message):
        BioRetriever(**settings)


def test_what_cannot_be_searched_is_named(tmp_path, encoder):
    with pytest.raises(PassageIndexError):
        BioRetriever(tmp_path / "nothing").run("q")
    with pytest.raises(ValueError, match="'empty'"):
        BioRetriever(documents=[Document(id="empty", content=None)], encoder=encoder).run("q")
