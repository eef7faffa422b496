"""Every host's objects say what the core says of the question: answered, not sure, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from biorerank_plugins import BioReranker, Passage
from biorerank_plugins.answers.quoted import compose_answer, quote

TEXTS = ["Idarucizumab reverses dabigatran within minutes.", "Dabigatran is a direct thrombin inhibitor."]
QUESTIONS = {"answered": "Which drug reverses dabigatran?", "nothing": "Who won the football world cup?"}


def llama_index(question: str) -> list[dict[str, Any]]:
    schema = pytest.importorskip("llama_index.core.schema")
    from biorerank_plugins.llama_index import BioRerankPostprocessor

    nodes = [schema.NodeWithScore(node=schema.TextNode(text=text)) for text in TEXTS]
    found = BioRerankPostprocessor(top_n=2, evidence=1).postprocess_nodes(nodes, query_str=question)
    for mode in (schema.MetadataMode.LLM, schema.MetadataMode.EMBED):
        assert all("biorerank_answer" not in one.node.get_content(metadata_mode=mode) for one in found)
    return [one.metadata for one in found]


def haystack(question: str) -> list[dict[str, Any]]:
    documents = pytest.importorskip("haystack").Document
    from biorerank_plugins.haystack import BioRanker

    found = BioRanker(top_k=2, evidence=1).run(query=question, documents=[documents(content=text) for text in TEXTS])
    again = BioRanker(top_k=2).run(query=QUESTIONS["nothing"], documents=found["documents"])
    assert {one.meta["biorerank_answer"] for one in again["documents"]} == {"nothing"}  # of that ranking, not the last
    return [one.meta for one in found["documents"]]


def langchain(question: str) -> list[dict[str, Any]]:
    documents = pytest.importorskip("langchain_core.documents").Document
    from biorerank_plugins.langchain import BioRerankCompressor

    found = BioRerankCompressor(top_n=2, evidence=1).compress_documents([documents(text) for text in TEXTS], question)
    return [one.metadata for one in found]


@pytest.mark.parametrize("host", [llama_index, haystack, langchain], ids=lambda host: host.__name__)
@pytest.mark.parametrize("state", QUESTIONS)
def test_the_state_is_that_of_the_core(host: Callable[[str], Sequence[dict[str, Any]]], state: str):
    metadata = host(QUESTIONS[state])
    assert [one["biorerank_answer"] for one in metadata] == [state, state]
    answerability = BioReranker().rank(QUESTIONS[state], TEXTS).answerability
    assert answerability is not None and answerability.state == state


def test_a_state_that_is_not_sure_quotes_nothing_and_names_the_nearest():
    passages = [Passage(str(n), text, title=text.split()[0]) for n, text in enumerate(TEXTS)]
    ranking = BioReranker().rank(QUESTIONS["answered"], passages, evidence=1)
    found = [(one.passage, one.evidence) for one in ranking]
    unsure = quote(ranking.query, found, state="not_sure")
    assert unsure.quotes == () and unsure.text == "" and [one.number for one in unsure.nearest] == [1, 2]
    assert quote(ranking.query, found, state="nothing").to_dict()["nearest"] == []
    assert quote(ranking.query, found).text == compose_answer(ranking).text != ""
    empty = quote(ranking.query, [(passages[0], [])])
    assert (empty.state, empty.why) == ("not_sure", "No single sentence says it.")
