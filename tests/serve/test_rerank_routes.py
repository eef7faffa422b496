"""The rerank protocols give what the library gives, in the shapes that their clients read."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from support.serve import QUERY, TEXTS, Running, order_of
from transformers import AutoTokenizer

from biorerank_plugins import BioReranker


def test_texts_are_ranked_as_by_text_embeddings_inference(server: Running, oracle: BioReranker):
    expected = oracle.predict([(QUERY, text) for text in TEXTS])
    answer = server.client.post("/rerank", json={"query": QUERY, "texts": TEXTS}).json()
    assert [line["index"] for line in answer] == order_of(expected)
    assert {line["index"]: line["score"] for line in answer} == {n: float(x) for n, x in enumerate(expected)}
    assert all(set(line) == {"index", "score"} for line in answer)


def test_raw_scores_are_logits_and_texts_come_back_when_asked_for(server: Running, oracle: BioReranker):
    body = {"query": QUERY, "texts": TEXTS, "raw_scores": True, "return_text": True, "truncate": True}
    answer = server.client.post("/rerank", json=body).json()
    logits = {line.input_index: line.logit for line in oracle.rank(QUERY, TEXTS)}
    assert {line["index"]: line["score"] for line in answer} == logits
    assert all(line["text"] == TEXTS[line["index"]] for line in answer)
    scores = oracle.predict([(QUERY, text) for text in TEXTS])
    assert [1 / (1 + math.exp(-logits[n])) for n in range(len(TEXTS))] == pytest.approx(list(scores), abs=1e-6)


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_documents_are_ranked_as_by_cohere_and_jina(server: Running, oracle: BioReranker, path: str):
    expected = oracle.predict([(QUERY, text) for text in TEXTS])
    documents = [TEXTS[0], {"text": TEXTS[1], "pmid": 7}, *TEXTS[2:]]
    body = {"model": "tiny", "query": QUERY, "documents": documents, "top_n": 3, "return_documents": True}
    answer = server.client.post(path, json=body).json()
    best = order_of(expected)[:3]
    assert [line["index"] for line in answer["results"]] == best
    assert [line["relevance_score"] for line in answer["results"]] == [float(expected[place]) for place in best]
    shown = [{"text": TEXTS[1], "pmid": 7} if place == 1 else {"text": TEXTS[place]} for place in best]
    assert [line["document"] for line in answer["results"]] == shown
    assert answer["model"] == "tiny" and answer["id"]
    assert answer["meta"]["api_version"]["version"] == ("2" if path == "/v2/rerank" else "1")
    assert path == "/v2/rerank" or answer["usage"]["total_tokens"] > 20


def test_tokens_are_those_of_the_model(server: Running, tiny_cross_encoder_dir: Path):
    body = {"query": "what is p53", "documents": ["aspirin binds platelets", "\ud800"]}
    tokenizer = AutoTokenizer.from_pretrained(tiny_cross_encoder_dir)
    # Half a surrogate pair, which JSON can hold, is read as a question mark.
    texts = ["what is p53", "aspirin binds platelets", "?"]
    expected = sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in texts)
    sent = b'{"query": "what is p53", "return_documents": true, "documents": ["aspirin binds platelets", "\\ud800"]}'
    headers = {"content-type": "application/json"}
    answer = server.client.post("/v1/rerank", content=sent, headers=headers)
    assert answer.status_code == 200
    assert answer.json()["usage"]["total_tokens"] == expected
    assert {line["document"]["text"] for line in answer.json()["results"]} == set(body["documents"])


def test_an_answer_is_json_even_where_the_request_was_not_quite(server: Running):
    sent = b'{"query": "q", "return_documents": true, "documents": [{"text": "a", "n": NaN, "all": [Infinity, 2.5]}]}'
    answer = server.client.post("/v1/rerank", content=sent, headers={"content-type": "application/json"})
    assert "NaN" not in answer.text and "Infinity" not in answer.text
    assert answer.json()["results"][0]["document"] == {"text": "a", "n": None, "all": [None, 2.5]}


def test_all_documents_come_back_without_top_n(server: Running):
    for more in ({}, {"top_n": 0}, {"top_n": None}, {"top_n": 100}):
        results = server.client.post("/v1/rerank", json={"query": QUERY, "documents": TEXTS, **more}).json()["results"]
        assert sorted(line["index"] for line in results) == list(range(len(TEXTS)))
        assert all("document" not in line for line in results)


def test_vllm_clients_can_ask_for_logits(server: Running, oracle: BioReranker):
    body = {"query": QUERY, "documents": TEXTS, "use_activation": False}
    results = server.client.post("/rerank", json=body).json()["results"]
    logits = {line.input_index: line.logit for line in oracle.rank(QUERY, TEXTS)}
    assert {line["index"]: line["relevance_score"] for line in results} == logits


def test_fields_of_objects_can_be_chosen(server: Running, oracle: BioReranker):
    documents = [{"title": "tp53", "abstract": "p53 suppresses tumours."}, {"title": "a", "abstract": "b"}]
    body = {"query": QUERY, "documents": documents, "rank_fields": ["title", "abstract"]}
    results = server.client.post("/v1/rerank", json=body).json()["results"]
    expected = oracle.predict([(QUERY, "tp53\np53 suppresses tumours."), (QUERY, "a\nb")])
    assert {line["index"]: line["relevance_score"] for line in results} == {n: float(x) for n, x in enumerate(expected)}


def test_mixed_requests_at_the_same_time_are_all_right(server: Running, oracle: BioReranker):
    words = "p53 aspirin insulin glucose metformin heart kidney liver brain cancer".split()
    requests = [
        (
            f"does {words[n % 10]} suppress {words[(n * 3) % 10]}?",
            [f"{words[(n + m) % 10]} {m}" for m in range(1 + n % 7)],
        )
        for n in range(60)
    ]

    def ask(number: int) -> list[tuple[int, float]]:
        query, texts = requests[number]
        if number % 2:
            answer = server.client.post("/v2/rerank", json={"query": query, "documents": texts}).json()["results"]
            return [(line["index"], line["relevance_score"]) for line in answer]
        answer = server.client.post("/rerank", json={"query": query, "texts": texts}).json()
        return [(line["index"], line["score"]) for line in answer]

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(ask, range(len(requests))))
    for (query, texts), answer in zip(requests, answers, strict=True):
        expected = oracle.predict([(query, text) for text in texts])
        np.testing.assert_allclose([score for _, score in sorted(answer)], expected, rtol=0, atol=1e-6)
        assert [place for place, _ in answer] == order_of([dict(answer)[place] for place in range(len(texts))])
