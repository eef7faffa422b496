"""What applications send to a rerank server, and what they read of its answer (looked up in their sources, 2026).

Each payload is in the form that the application writes; each reader takes the fields that the application takes, and
fails where it would fail. Clients that are packages of their own are in ``test_clients.py``; AnythingLLM ranks by
itself and asks no server.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from support.serve import QUERY, TEXTS, Running

from biorerank_plugins import BioReranker

ASKED = [text for text in TEXTS if text]
ALL = len(ASKED)
Scores = dict[int, float]


def relevance(answer: Any) -> Scores:
    return {one["index"]: one["relevance_score"] for one in answer["results"]}


def with_text(answer: Any) -> Scores:
    assert all(one["document"]["text"] == ASKED[one["index"]] for one in answer["results"])
    return relevance(answer)


def with_tokens_in_usage(answer: Any) -> Scores:
    assert answer["usage"]["total_tokens"] > 0
    return relevance(answer)


def with_tokens_in_meta(answer: Any) -> Scores:
    tokens = answer["meta"]["tokens"]
    assert tokens["input_tokens"] + tokens["output_tokens"] > 0
    return relevance(answer)


def bare_list(answer: Any) -> Scores:
    return {one["index"]: one["score"] for one in answer}


@dataclass(frozen=True)
class App:
    """One way in which an application asks."""

    name: str
    path: str
    payload: dict[str, Any]
    read: Callable[[Any], Scores]


def documents(**more: Any) -> dict[str, Any]:
    return {"model": "reranker", "query": QUERY, "documents": ASKED, **more}


PARTS = [{"content": [{"type": "text", "text": text}]} for text in ASKED]
APPS = [
    App("Open WebUI, external reranker", "/v1/rerank", documents(top_n=ALL), relevance),
    App("Dify, OpenAI-API-compatible", "/v1/rerank", documents(top_n=ALL), relevance),
    App("Dify, the same with images allowed", "/v1/rerank", {**documents(top_n=ALL), "documents": PARTS}, relevance),
    App("Dify, SiliconFlow", "/v1/rerank", documents(top_n=None, return_documents=True), with_text),
    App("RAGFlow, Jina", "/v1/rerank", documents(top_n=ALL), with_tokens_in_usage),
    App("RAGFlow, LocalAI", "/rerank", documents(top_n=ALL), relevance),
    App(
        "RAGFlow, Xinference",
        "/v1/rerank",
        documents(return_documents="true", return_len="true"),
        with_tokens_in_meta,
    ),
    App("LibreChat, Jina", "/v1/rerank", documents(top_n=ALL, return_documents=True), with_text),
    App("LibreChat, Cohere", "/v2/rerank", documents(top_n=ALL), relevance),
    App(
        "Continue, Text Embeddings Inference",
        "/rerank",
        {
            "query": QUERY,
            "return_text": False,
            "raw_scores": False,
            "texts": ASKED,
            "truncation_direction": "Right",
            "truncate": True,
        },
        bare_list,
    ),
]


@pytest.mark.parametrize("app", APPS, ids=lambda app: app.name)
def test_the_application_reads_the_librarys_scores(server: Running, oracle: BioReranker, app: App):
    answer = server.client.post(app.path, json=app.payload)
    assert answer.status_code == 200, answer.text
    expected = oracle.predict([(QUERY, text) for text in ASKED])
    assert app.read(answer.json()) == {place: float(score) for place, score in enumerate(expected)}


def test_continue_asks_for_the_number_of_texts_first(server: Running):
    info = server.client.get("/info").json()
    assert isinstance(info["max_client_batch_size"], int) and info["model_id"]


def test_parts_without_text_are_refused_by_their_place(server: Running):
    image = {"content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}
    answer = server.client.post("/v1/rerank", json=documents() | {"documents": [ASKED[0], image]})
    assert answer.status_code == 422
    assert "documents.1" in answer.json()["error"]
