"""The tools give what both stages and the answer function give, and refuse in one sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.mcp import asked, called
from support.serve import PASSAGES, QUERY, TEXTS

from biorerank_plugins import BioReranker, Passage, PassageIndex, TwoStageSearch
from biorerank_plugins.answers.quoted import compose_answer
from biorerank_plugins.errors import ModelError
from biorerank_plugins.mcp import Library
from biorerank_plugins.testing import ScriptedScorer

TOOLS = ("search_evidence", "rerank", "get_passage")


def test_the_tools_say_what_they_take(library: Library):
    tools = {tool.name: tool for tool in asked(library, lambda client: client.list_tools()).tools}
    assert tuple(tools) == TOOLS
    for tool in tools.values():
        assert tool.description and tool.annotations.read_only_hint
        assert tool.input_schema["type"] == "object"
        assert tool.input_schema["additionalProperties"] is False
    assert tools["search_evidence"].input_schema["required"] == ["question"]
    assert tools["rerank"].input_schema["required"] == ["question", "passages"]


def test_a_search_is_that_of_both_stages_with_its_answer(library: Library, search: TwoStageSearch):
    result = called(library, "search_evidence", question=QUERY, k=3, sentences=2)
    found = result.structured_content
    assert not result.is_error
    assert json.loads(result.content[0].text) == found  # clients that read texts only have all of it too

    ranking = search.search(QUERY, top_k=3, evidence=2, retracted="flag")
    answer = compose_answer(ranking, max_sentences=2)
    assert [one["id"] for one in found["passages"]] == [ranked.passage.id for ranked in ranking]
    assert [one["score"] for one in found["passages"]] == pytest.approx([ranked.score for ranked in ranking], abs=1e-5)
    assert [one["probability"] for one in found["passages"]] == pytest.approx(
        [ranked.probability for ranked in ranking], abs=1e-5
    )
    assert (found["state"], found["why"], found["answer"]) == (answer.state, answer.why, answer.text)
    assert [one["text"] for one in found["citations"]] == [citation.text for citation in answer.citations]
    texts = {passage.id: passage.text for passage in PASSAGES}
    for one in found["passages"]:
        assert one["sentences"] and one["text"] == texts[one["id"]] and not one["text_is_cut"]
        assert one["metadata"] == dict(next(p for p in PASSAGES if p.id == one["id"]).metadata)
        for sentence in one["sentences"]:
            assert texts[one["id"]][sentence["start"] : sentence["end"]] == sentence["text"]


def test_filters_choose_what_may_be_found(library: Library):
    found = called(library, "search_evidence", question=QUERY, filters={"year": {">=": 2016}}).structured_content
    assert {one["id"] for one in found["passages"]} == {"p3", "p4"}


def answering(logit: float) -> Library:
    """Return a library whose embedded model's thresholds decide over a logit that is given."""
    passages = [Passage("1", "Idarucizumab reverses dabigatran. It acts within minutes.")]
    reranker = BioReranker(ScriptedScorer(lambda *_: logit))
    return Library(lambda: TwoStageSearch(PassageIndex.build(passages, encoder=_Flat()), reranker))


class _Flat:
    """An encoder to which all texts are the same."""

    dimension, model_id, content_hash = 4, "flat", "flat"

    def encode_queries(self, queries: Any) -> Any:
        import numpy as np

        return np.full((len(queries), 4), 0.5, dtype=np.float32)

    encode_passages = encode_queries

    def config(self) -> dict[str, Any]:
        return {}


def test_the_state_comes_with_its_reason_where_nothing_is_found():
    found = called(answering(1.0), "search_evidence", question="What?", filters={"year": 1066}).structured_content
    assert (found["state"], found["answer"], found["passages"]) == ("nothing", "", [])
    assert found["why"] == "Nothing was found."


def test_the_embedded_models_give_all_three_states():
    from biorerank_plugins import models

    texts = ["Idarucizumab reverses dabigatran within minutes.", "Dabigatran is a direct thrombin inhibitor."]
    index = PassageIndex.build([Passage(str(n), text) for n, text in enumerate(texts)])
    library = Library(lambda: TwoStageSearch(index, BioReranker(models.DEFAULT_RERANKER)))
    answered = called(library, "search_evidence", question="Which drug reverses dabigatran?").structured_content
    assert answered["state"] == "answered" and "Idarucizumab" in answered["answer"] and answered["citations"]
    nothing = called(library, "search_evidence", question="Who won the football world cup?").structured_content
    assert nothing["state"] == "nothing" and nothing["why"] and not nothing["citations"]
    library.close()


def test_reranking_is_that_of_the_reranker(library: Library, oracle: BioReranker):
    found = called(library, "rerank", question=QUERY, passages=TEXTS).structured_content["passages"]
    ranking = oracle.rank(QUERY, TEXTS)
    assert [one["index"] for one in found] == [ranked.input_index for ranked in ranking]
    assert [one["score"] for one in found] == pytest.approx([ranked.score for ranked in ranking], abs=1e-5)
    assert [one["rank"] for one in found] == list(range(1, len(TEXTS) + 1))


def test_passages_may_have_titles_and_names(library: Library, oracle: BioReranker):
    given = [{"text": one.text, "title": one.title, "id": one.id} for one in PASSAGES]
    found = called(library, "rerank", question=QUERY, passages=given, k=2).structured_content["passages"]
    assert [one["id"] for one in found] == [ranked.passage.id for ranked in oracle.rank(QUERY, PASSAGES, top_k=2)]


def test_a_passage_comes_whole_by_tool_and_by_address(library: Library):
    got = called(library, "get_passage", id="p1").structured_content
    assert {name: got[name] for name in ("id", "text", "title", "metadata")} == PASSAGES[0].to_dict()
    assert "TP53" in got["citation"]
    templates = asked(library, lambda client: client.list_resource_templates()).resource_templates
    assert [one.uri_template for one in templates] == ["passage://{id}"]
    read = asked(library, lambda client: client.read_resource("passage://p1")).contents
    assert [(one.mime_type, json.loads(one.text)) for one in read] == [("application/json", got)]


@pytest.mark.parametrize("id_", ["a b/c?d#e", "PMID:12,34", "Ünï", "100%"])
def test_any_id_has_an_address(id_: str):
    from mcp import UriTemplate

    index = PassageIndex.build([Passage(id_, "text")], encoder=_Flat(), lexical=False)
    library = Library(lambda: TwoStageSearch(index, BioReranker(ScriptedScorer(lambda *_: 0.0))))
    address = UriTemplate.parse("passage://{id}").expand({"id": id_})
    read = asked(library, lambda client: client.read_resource(address)).contents
    assert json.loads(read[0].text)["id"] == id_


def test_a_long_passage_is_cut_in_answers_and_whole_by_its_id():
    text = "Idarucizumab reverses dabigatran. " * 500
    index = PassageIndex.build([Passage("1", text)], encoder=_Flat(), lexical=False)
    library = Library(lambda: TwoStageSearch(index, BioReranker(ScriptedScorer(lambda *_: 1.0))))
    found = called(library, "search_evidence", question="What?", sentences=1).structured_content["passages"][0]
    assert found["text_is_cut"] and len(found["text"]) < 5_000 and text.startswith(found["text"])
    assert called(library, "get_passage", id="1").structured_content["text"] == text


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("search_evidence", {}, "question: Field required"),
        ("search_evidence", {"question": "  "}, "question: it is empty"),
        ("search_evidence", {"question": "q" * 4_001}, "at most 4000 characters"),
        ("search_evidence", {"question": "q", "k": 51}, "k: Input should be less than or equal to 50"),
        ("search_evidence", {"question": "q", "top_k": 3}, "top_k: Extra inputs are not permitted"),
        ("search_evidence", {"question": "q", "filters": {"year": {"~": 3}}}, "filters: "),
        ("rerank", {"question": "q", "passages": []}, "passages: "),
        ("rerank", {"question": "q", "passages": ["x"] * 501}, "passages: "),
        ("rerank", {"question": "q", "passages": ["x" * 99_000] * 11}, "1,089,000 characters"),
        ("rerank", {"question": "q", "passages": [7]}, "passages.0: give a text"),
        ("rerank", {"question": "q", "passages": [{"body": "x"}]}, "passages.0.text: Field required"),
        ("get_passage", {"id": ""}, "id: "),
        ("get_passage", {"id": "p99"}, "The index has no passage 'p99'"),
    ],
)
def test_a_call_that_cannot_be_answered_says_why_in_one_line(
    library: Library, tool: str, arguments: dict[str, Any], said: str
):
    result = called(library, tool, **arguments)
    assert result.is_error and result.structured_content is None
    (content,) = result.content
    assert said in content.text and "\n" not in content.text and len(content.text) < 400


def test_what_is_not_there_is_an_error_of_the_protocol(library: Library):
    from mcp import MCPError

    with pytest.raises(MCPError, match="There is no tool 'search': search_evidence, rerank, get_passage"):
        called(library, "search")
    for address, said in (("passage://p99", "has no passage 'p99'"), ("file:///etc/passwd", "passage://{id}")):
        with pytest.raises(MCPError, match=said):
            asked(library, lambda client, address=address: client.read_resource(address))


def test_what_cannot_be_loaded_is_said_by_each_call_and_tried_again(search: TwoStageSearch):
    opened: list[TwoStageSearch | Exception] = [search, ModelError("There is no model 'x'."), KeyError("/secret/path")]

    def open_search() -> TwoStageSearch:
        found = opened.pop()
        if isinstance(found, Exception):
            raise found
        return found

    library = Library(open_search)
    unforeseen = called(library, "get_passage", id="p1")
    assert unforeseen.is_error and "KeyError" in unforeseen.content[0].text and "secret" not in str(unforeseen)
    said = called(library, "get_passage", id="p1")
    assert (said.is_error, said.content[0].text) == (True, "There is no model 'x'.")
    assert not called(library, "get_passage", id="p1").is_error
