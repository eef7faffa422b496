"""Bodies: bounded in memory, read without a content type, packed, in the shapes of other servers."""

from __future__ import annotations

import gzip
import json
import time
import tracemalloc
from typing import Any

import pytest
from fastapi.testclient import TestClient

from biorerank_plugins import BioReranker
from biorerank_plugins.serve import Engine, Limits, create_app
from biorerank_plugins.serve.answers import RefusedError
from biorerank_plugins.serve.schemas import MOST, check_weight
from biorerank_plugins.testing import ScriptedScorer


def number_or_0() -> ScriptedScorer:
    return ScriptedScorer(lambda _, text: float(text.split()[0]) if text[:1].isdigit() else 0.0)


LIMITS = Limits(max_body_bytes=400_000, max_texts=100)
DOCUMENTS = ["1 a", "3 b", "2 c"]


@pytest.fixture(scope="module")
def client():
    with TestClient(create_app(Engine(BioReranker(number_or_0()), limits=LIMITS))) as running:
        for _ in range(600):
            if running.get("/ready").status_code == 200:
                break
            time.sleep(0.05)
        yield running


def order(response: Any) -> list[int]:
    assert response.status_code == 200, response.text
    return [one["index"] for one in response.json()["results"]]


HOSTILE = [
    b'{"query": "q", "documents": [' + b"1," * 150_000 + b"1]}",
    b'{"query": "q", "texts": [' + b"1," * 150_000 + b"1]}",
    b'{"query": "q", "documents": [' + b"[]," * 120_000 + b"[]]}",
    b'{"query": "q", "documents": [' + b'{"a":1},' * 45_000 + b'"x"]}',
    b'{"query": "q", "documents": ["x"], "rank_fields": [' + b'"a",' * 90_000 + b'"a"]}',
    b'{"text_1": "q", "text_2": [' + b"1," * 150_000 + b"1]}",
    b'{"query": ' + b"[" * 390_000,
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("path", ["/rerank", "/v2/rerank", "/score", "/search"])
def test_a_hostile_body_takes_at_most_ten_times_its_bytes(client: TestClient, body: bytes, path: str):
    assert len(body) <= LIMITS.max_body_bytes
    tracemalloc.start()
    try:
        response = client.post(path, content=body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert response.status_code in (413, 422), response.text
    assert len(response.content) < 2_000
    assert peak < (MOST + 3) * LIMITS.max_body_bytes  # the client holds the body too, and the server its copies


def test_long_texts_are_not_taken_for_many_values():
    text = ", ".join(f'he said "{n}" [{n}]' for n in range(3_000))
    body = json.dumps({"query": "q", "documents": [text] * 5}).encode()
    check_weight(body, MOST * len(body))
    with pytest.raises(RefusedError):
        check_weight(b"[" + b"[]," * 1_000_000 + b"[]]", MOST * 3_000_000)


@pytest.mark.parametrize(
    "headers", [{}, {"Content-Type": "application/json; charset=utf-8"}, {"Content-Type": "application/vnd.api+json"}]
)
@pytest.mark.parametrize("path", ["/rerank", "/rerank/", "/v1/rerank", "/v1/rerank/", "/v2/rerank/"])
def test_no_content_type_and_a_slash_at_the_end(client: TestClient, headers: dict[str, str], path: str):
    body = json.dumps({"query": "q", "documents": DOCUMENTS}).encode()
    assert order(client.post(path, content=body, headers=headers)) == [1, 2, 0]


def test_a_packed_body_is_unpacked_within_the_limit(client: TestClient):
    packed = {"Content-Encoding": "gzip"}
    body = gzip.compress(json.dumps({"query": "q", "documents": DOCUMENTS}).encode())
    assert order(client.post("/rerank", content=body, headers=packed)) == [1, 2, 0]
    bomb = gzip.compress(b" " * 50_000_000)
    assert client.post("/rerank", content=bomb, headers=packed).status_code == 413
    assert client.post("/rerank", content=body[:-10], headers=packed).status_code == 422
    assert client.post("/rerank", content=b"{}", headers=packed).status_code == 422


@pytest.mark.parametrize("model", [None, "", "rerank-english-v3.0", "jina-reranker-v2-base-multilingual"])
def test_any_model_name_is_taken_and_the_reply_says_which_it_was(client: TestClient, model: str | None):
    response = client.post("/v1/rerank", json={"query": "q", "documents": DOCUMENTS, "model": model})
    assert order(response) == [1, 2, 0]
    assert response.json()["model"] == client.get("/v1/models").json()["data"][0]["id"]


@pytest.mark.parametrize("name", ["top_n", "top_k"])
def test_both_names_for_how_many(client: TestClient, name: str):
    assert order(client.post("/rerank", json={"query": "q", "documents": DOCUMENTS, name: 2})) == [1, 2]


@pytest.mark.parametrize("key", ["text", "content", "passage"])
def test_objects_by_the_names_that_clients_use(client: TestClient, key: str):
    documents = [{key: text, "id": place} for place, text in enumerate(DOCUMENTS)]
    assert order(client.post("/v2/rerank", json={"query": "q", "documents": documents})) == [1, 2, 0]


def test_fields_may_be_numbers_or_absent_but_not_all_of_them(client: TestClient):
    documents: list[Any] = [{"n": 1, "t": "a"}, {"n": 3}, {"t": "2 c", "n": None}]
    asked = {"query": "q", "documents": documents, "rank_fields": ["n", "t"]}
    assert order(client.post("/v1/rerank", json=asked)) == [1, 2, 0]
    response = client.post("/v1/rerank", json={**asked, "documents": [*documents, {"other": "x"}]})
    assert response.status_code == 422
    assert "documents.3" in response.json()["message"] and "n, t" in response.json()["message"]


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
def test_scores_as_vllm_gives_them(client: TestClient, path: str):
    given = client.post(path, json={"model": "m", "text_1": "q", "text_2": DOCUMENTS}).json()
    assert given["object"] == "list" and [one["index"] for one in given["data"]] == [0, 1, 2]
    expected = [
        line.score for line in sorted(BioReranker(number_or_0()).rank("q", DOCUMENTS), key=lambda x: x.input_index)
    ]
    assert [one["score"] for one in given["data"]] == pytest.approx(expected)
    pairs = client.post(path, json={"text_1": ["q", "r"], "text_2": DOCUMENTS[:2]}).json()["data"]
    assert [one["score"] for one in pairs] == pytest.approx(expected[:2])
    one = client.post(path, json={"text_1": "q", "text_2": DOCUMENTS[0]}).json()["data"]
    assert [single["score"] for single in one] == pytest.approx(expected[:1])
    for bad in (
        {"text_1": ["q", "r"], "text_2": DOCUMENTS},
        {"text_1": "q", "text_2": []},
        {"text_1": " ", "text_2": "x"},
    ):
        assert client.post(path, json=bad).status_code == 422


@pytest.mark.parametrize("path", ["/", "/health", "/health/"])
def test_health_by_head_and_get(client: TestClient, path: str):
    assert client.get(path).json() == {"status": "ok"}
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")


def test_the_description_names_every_shape(client: TestClient):
    told = client.get("/openapi.json").json()
    assert {"DocumentsRerank", "ScoreRequest", "SearchRequest", "TextsRerank"} <= told["components"]["schemas"].keys()
    assert "ScoreRequest" in client.get("/docs").text


def test_names_are_strict_where_it_is_asked_for():
    engine = Engine(BioReranker(number_or_0()), names=("mine",), strict_model_names=True)
    engine.start()
    assert engine.check_model("mine") == "mine"
    with pytest.raises(RefusedError, match="There is no model 'other'"):
        engine.check_model("other")
    engine.close()
