"""A server as the model of a reranker: the library's scores, in every adapter; errors that name the status."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from support.serve import QUERY, TEXTS, Quick, Running, started

from biorerank_plugins import BioReranker
from biorerank_plugins.errors import OverloadedError, ScoringError, ScoringTimeoutError
from biorerank_plugins.scoring.remote import RemoteScorer
from biorerank_plugins.scoring.scores import PairScorer

Reply = tuple[int, dict[str, str], bytes]


@contextmanager
def _answering(answer: Callable[[str, dict[str, Any]], Reply]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Run a server that answers (path, body) by a function; gives its URL and what it was asked."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append({"path": self.path, "key": self.headers.get("authorization"), **body})
            status, headers, content = answer(self.path, body)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        # Asked to stop, it looks whether it should once an interval: half a second, unless told otherwise.
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}", asked
        finally:
            http.shutdown()
            thread.join()


def _ok(content: Any) -> Reply:
    return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()


@pytest.mark.parametrize("kind", ["auto", "tei", "cohere", "jina", "vllm"])
def test_scores_are_those_of_the_library(server: Running, oracle: BioReranker, kind: str):
    expected = oracle.rank(QUERY, TEXTS)
    with RemoteScorer(server.url, kind, model="tiny") as remote, BioReranker(remote) as reranker:
        assert isinstance(remote, PairScorer)
        ranking = reranker.rank(QUERY, TEXTS)
        assert [line.input_index for line in ranking] == [line.input_index for line in expected]
        # A sigmoid in float32 keeps few digits of a logit, and all of a score.
        tolerance = 1e-6 if kind in ("auto", "tei") else 2e-2
        np.testing.assert_allclose(
            [line.logit for line in ranking], [line.logit for line in expected], rtol=0, atol=tolerance
        )
        np.testing.assert_allclose(
            reranker.predict([(QUERY, text) for text in TEXTS]),
            oracle.predict([(QUERY, text) for text in TEXTS]),
            rtol=0,
            atol=1e-6,
        )


def test_logits_of_vllm_when_asked_for(server: Running, oracle: BioReranker):
    with RemoteScorer(server.url, "vllm", raw_scores=True) as remote:
        expected = {line.input_index: line.logit for line in oracle.rank(QUERY, TEXTS)}
        assert remote.logits(QUERY, TEXTS) == pytest.approx([expected[n] for n in range(len(TEXTS))], abs=1e-6)


def test_many_texts_go_in_parts_and_keep_their_order():
    numbers = [str((n * 37) % 101 - 50) for n in range(101)]
    with started(BioReranker(Quick())) as running, RemoteScorer(running.url, "tei", batch=7) as remote:
        assert remote.logits("q", numbers) == [float(number) for number in numbers]
        assert remote.logits("q", []) == []

    def count(path: str, body: dict[str, Any]) -> Reply:
        assert len(body["texts"]) <= 7
        return _ok([{"index": n, "score": float(text)} for n, text in reversed(list(enumerate(body["texts"])))])

    with _answering(count) as (url, asked), RemoteScorer(url, "tei", batch=7) as remote:
        assert remote.logits("q", numbers) == [float(number) for number in numbers]
        assert len(asked) == 15
        assert all(one["raw_scores"] is True and one["truncate"] is True for one in asked)
        long = ["1" + " " * 400_000] * 5  # by characters, not by number
        assert remote.logits("q", long) == [1.0] * 5
        assert [len(one["texts"]) for one in asked[15:]] in ([2, 2, 1], [2, 1, 2])


def test_the_protocol_is_found_out_once():
    def cohere(path: str, body: dict[str, Any]) -> Reply:
        if path != "/v2/rerank":
            return 404, {}, b'{"message": "no such route"}'
        return _ok({"results": [{"index": n, "relevance_score": 0.5} for n in range(len(body["documents"]))]})

    with _answering(cohere) as (url, asked), RemoteScorer(url, model="m") as remote:
        assert remote.logits("q", ["a", "b"]) == pytest.approx([0.0, 0.0])
        assert remote.logits("q", ["a"]) == pytest.approx([0.0])
    assert [one["path"] for one in asked] == ["/rerank", "/v2/rerank", "/v2/rerank"]
    assert asked[1]["model"] == "m"


def test_scores_at_the_ends_are_large_and_finite():
    def ends(path: str, body: dict[str, Any]) -> Reply:
        return _ok({"results": [{"index": n, "relevance_score": s} for n, s in enumerate([1, 0, 0.5, 0.9])]})

    with _answering(ends) as (url, _), RemoteScorer(url, "jina") as remote:
        high, low, middle, given = remote.logits("q", ["a"] * 4)
    assert 27 < high < 28 and -28 < low < -27 and middle == 0
    assert given == pytest.approx(np.log(9))


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        ("tei", {"score": 1}, "expected a list"),
        ("tei", [], "0 scores for 2 texts"),
        ("tei", [{"index": 0, "score": 1.0}, {"index": 0, "score": 1.0}], "came twice"),
        ("tei", [{"index": 0, "score": 1.0}, {"index": 2, "score": 1.0}], "does not belong"),
        ("tei", [{"index": 0, "score": 1.0}, {"index": 1, "score": None}], "no finite number"),
        ("tei", [{"index": 0}], "score"),
        ("cohere", [], "expected an object"),
        ("cohere", {"results": [{"index": 0, "relevance_score": 3.5}]}, "pass raw_scores=True"),
        ("cohere", {"data": []}, "results"),
    ],
)
def test_an_answer_that_is_none_is_an_error(kind: str, content: Any, said: str):
    with (
        _answering(lambda *_: _ok(content)) as (url, _),
        RemoteScorer(url, kind) as remote,
        pytest.raises(ScoringError, match=said),
    ):
        remote.logits("q", ["a", "b"])


def test_something_that_is_no_json_is_an_error():
    reply = 200, {}, b"<html>a proxy</html>"
    with (
        _answering(lambda *_: reply) as (url, _),
        RemoteScorer(url, "tei") as remote,
        pytest.raises(ScoringError, match="no JSON"),
    ):
        remote.logits("q", ["a"])


def test_a_busy_server_is_asked_again_when_it_says_so():
    replies = [(429, {"Retry-After": "0"}, b""), (503, {"Retry-After": "0"}, b"{}"), (502, {}, b"bad gateway")]

    def busy(path: str, body: dict[str, Any]) -> Reply:
        return replies.pop(0) if replies else _ok([{"index": 0, "score": 2.5}])

    with _answering(busy) as (url, asked), RemoteScorer(url, "tei") as remote:
        assert remote.logits("q", ["a"]) == [2.5]
        assert len(asked) == 4


def test_a_server_that_stays_busy_is_overloaded_and_a_refusal_is_no_retry():
    with _answering(lambda *_: (429, {"Retry-After": "0"}, b"busy")) as (url, asked):
        with RemoteScorer(url, "tei", retries=2) as remote, pytest.raises(OverloadedError, match="status 429: busy"):
            remote.logits("q", ["a"])
        assert len(asked) == 3
    with _answering(lambda *_: (401, {}, b"no")) as (url, asked):
        with RemoteScorer(url) as remote, pytest.raises(ScoringError, match="status 401: no"):
            remote.logits("q", ["a"])
        assert len(asked) == 1


def test_a_server_that_is_not_there_or_does_not_answer():
    with RemoteScorer("http://127.0.0.1:9", "tei", retries=0) as remote, pytest.raises(ScoringError, match="reached"):
        remote.logits("q", ["a"])
    wait = threading.Event()

    def never(path: str, body: dict[str, Any]) -> Reply:
        wait.wait(10)
        return _ok([])

    with _answering(never) as (url, _), RemoteScorer(url, "tei", timeout=0.2, retries=0) as remote:
        with pytest.raises(ScoringTimeoutError, match="in time"):
            remote.logits("q", ["a"])
        wait.set()


def test_the_key_is_sent_and_shown_nowhere(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    caplog.set_level(logging.DEBUG)
    with _answering(lambda *_: (403, {}, b"wrong key: s3cret!")) as (url, asked):
        remote = RemoteScorer(url, "cohere", api_key="s3cret!")
        with remote, pytest.raises(ScoringError) as caught:
            remote.logits("q", ["a"])
        assert asked[0]["key"] == "Bearer s3cret!"
        assert "s3cret!" not in str(caught.value) and "***" in str(caught.value)
        assert "s3cret!" not in repr(remote) and "s3cret!" not in caplog.text
        assert copy.deepcopy(remote) is remote
        with pytest.raises(TypeError, match="api_key_env"):
            pickle.dumps(remote)
        monkeypatch.setenv("SOME_KEY", "from outside")
        other = pickle.loads(pickle.dumps(RemoteScorer(url, "cohere", api_key_env="SOME_KEY")))
        with other, pytest.raises(ScoringError):
            other.logits("q", ["a"])
        assert asked[1]["key"] == "Bearer from outside"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "localhost:8080"}, "such as"),
        ({"url": "http://user:pass@host"}, "Use api_key"),
        ({"kind": "openai"}, "is unknown"),
        ({"batch": 0}, "batch"),
        ({"timeout": 0}, "timeout"),
        ({"retries": -1}, "retries"),
        ({"api_key": "a", "api_key_env": "b"}, "not both"),
    ],
)
def test_impossible_options_are_refused(options: dict, said: str):
    with pytest.raises(ValueError, match=said):
        RemoteScorer(**{"url": "http://localhost:1", **options})


def test_a_server_ranks_in_llama_index(server: Running, oracle: BioReranker):
    schema = pytest.importorskip("llama_index.core.schema")
    from biorerank_plugins.llama_index import BioRerankPostprocessor

    nodes = [schema.NodeWithScore(node=schema.TextNode(text=text), score=0.1) for text in TEXTS[:4]]
    with RemoteScorer(server.url, api_key="k") as remote:
        ours = BioRerankPostprocessor(model=remote, top_n=3)
        found = ours.postprocess_nodes(nodes, query_str=QUERY)
        assert "'k'" not in repr(ours)
    expected = oracle.rank(QUERY, TEXTS[:4], top_k=3)
    assert [node.node.text for node in found] == [line.passage.text for line in expected]
    assert [node.score for node in found] == pytest.approx([line.score for line in expected], abs=1e-6)


def test_a_server_ranks_in_haystack(server: Running, oracle: BioReranker):
    haystack = pytest.importorskip("haystack")
    from biorerank_plugins.haystack import BioRanker

    with RemoteScorer(server.url) as remote:
        ranker = BioRanker(model=remote, top_k=3)
        found = ranker.run(query=QUERY, documents=[haystack.Document(content=text) for text in TEXTS[:4]])["documents"]
        with pytest.raises(ValueError, match="cannot be saved"):
            ranker.to_dict()
        ranker.close()
    expected = oracle.rank(QUERY, TEXTS[:4], top_k=3)
    assert [one.content for one in found] == [line.passage.text for line in expected]
    assert [one.score for one in found] == pytest.approx([line.score for line in expected], abs=1e-6)
