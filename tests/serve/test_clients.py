"""Other projects' clients, unchanged, pointed at ``biorerank serve``: they give the library's scores.

Their pins may clash with ours, so they live in an environment of their own, which ``.ci/run`` makes from
``clients.txt``. Where that has pytest alone, the Python that has this package is named:

    BIORERANK_PYTHON=.venv/bin/python clients/bin/pytest -c /dev/null --rootdir . tests/serve/test_clients.py

The server and the library run there, in processes of their own, with the embedded model.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

# The clients' own warnings are theirs.
pytestmark = pytest.mark.filterwarnings("default")

KEY = "a key of our own"
QUERY = "Which drug reverses dabigatran?"
TEXTS = [
    "Dabigatran is a direct thrombin inhibitor.",
    "Idarucizumab reverses dabigatran within minutes.",
    "Andexanet alfa reverses factor Xa inhibitors.",
    "Vitamin K reverses warfarin.",
]
PYTHON = os.environ.get("BIORERANK_PYTHON", sys.executable)
COMMAND = [PYTHON, "-m", "biorerank_plugins.cli"]


CLIENTS = (
    "cohere",
    "haystack_integrations.components.rankers.jina",
    "haystack_integrations.components.rankers.huggingface_api",
    "litellm",
    "llama_index.postprocessor.jinaai_rerank",
    "llama_index.postprocessor.tei_rerank",
)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of what it is a part of
        return False


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """URL of a server."""
    if not any(map(_is_installed, CLIENTS)):
        pytest.skip("none of the clients is installed")
    if subprocess.run([PYTHON, "-c", "import fastapi, prometheus_client, uvicorn"], capture_output=True).returncode:
        pytest.skip("fastapi, prometheus-client and uvicorn, of the extra 'serve', are not installed")
    options = ["--port", "0", "--json", "--quiet", "--model-name", "rerank-v3.5"]
    environment = {**os.environ, "BIORERANK_API_KEY": KEY}
    process = subprocess.Popen([*COMMAND, "serve", *options], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        process.stdout.close()


@pytest.fixture(scope="module")
def scores() -> dict[str, float]:
    """The library's scores by text."""
    command = [*COMMAND, "rerank", QUERY, "-", "--json", "--quiet"]
    done = subprocess.run(command, input="\n".join(TEXTS), capture_output=True, text=True, check=True)
    return {one["text"]: one["score"] for one in json.loads(done.stdout)["passages"]}


def _check(found: list[tuple[str, float]], scores: dict[str, float], count: int) -> None:
    expected = sorted(scores, key=lambda text: -scores[text])[:count]
    assert [text for text, _ in found] == expected
    assert [score for _, score in found] == pytest.approx([scores[text] for text in expected], abs=1e-6)


def _llama_index_nodes():
    from llama_index.core.schema import NodeWithScore, TextNode

    return [NodeWithScore(node=TextNode(text=text), score=0.5) for text in TEXTS]


def test_llama_index_text_embeddings_inference(server, scores):
    base = pytest.importorskip("llama_index.postprocessor.tei_rerank")
    client = base.TextEmbeddingInference(top_n=3, base_url=server, auth_token=f"Bearer {KEY}")
    _check([(n.node.text, n.score) for n in client.postprocess_nodes(_llama_index_nodes(), query_str=QUERY)], scores, 3)


def test_llama_index_cohere(server, scores):
    base = pytest.importorskip("llama_index.postprocessor.cohere_rerank")
    client = base.CohereRerank(top_n=3, model="rerank-v3.5", api_key=KEY, base_url=server)
    _check([(n.node.text, n.score) for n in client.postprocess_nodes(_llama_index_nodes(), query_str=QUERY)], scores, 3)


def test_llama_index_jina(server, scores):
    base = pytest.importorskip("llama_index.postprocessor.jinaai_rerank")
    client = base.JinaRerank(top_n=2, model="rerank-v3.5", base_url=f"{server}/v1", api_key=KEY)
    _check([(n.node.text, n.score) for n in client.postprocess_nodes(_llama_index_nodes(), query_str=QUERY)], scores, 2)


def _haystack(ranker):
    from haystack import Document

    return [(d.content, d.score) for d in ranker.run(QUERY, [Document(content=text) for text in TEXTS])["documents"]]


def _secret():
    from haystack.utils import Secret

    return Secret.from_token(KEY)


def test_haystack_cohere(server, scores):
    base = pytest.importorskip("haystack_integrations.components.rankers.cohere")
    client = base.CohereRanker(model="rerank-v3.5", top_k=3, api_key=_secret(), api_base_url=server)
    _check(_haystack(client), scores, 3)


def test_haystack_jina(server, scores):
    base = pytest.importorskip("haystack_integrations.components.rankers.jina")
    client = base.JinaRanker(model="rerank-v3.5", api_key=_secret(), top_k=3, base_url=f"{server}/v1/rerank")
    _check(_haystack(client), scores, 3)


def test_haystack_text_embeddings_inference(server, scores):
    base = pytest.importorskip("haystack_integrations.components.rankers.huggingface_api")
    client = base.HuggingFaceTEIRanker(url=server, top_k=4, token=_secret())
    _check(_haystack(client), scores, 4)


def test_langchain_cohere(server, scores):
    base = pytest.importorskip("langchain_cohere")
    from langchain_core.documents import Document

    client = base.CohereRerank(top_n=3, model="rerank-v3.5", cohere_api_key=KEY, base_url=server)
    found = client.compress_documents([Document(text) for text in TEXTS], QUERY)
    _check([(one.page_content, one.metadata["relevance_score"]) for one in found], scores, 3)


@pytest.mark.parametrize(
    ("provider", "path"),
    [("cohere", ""), ("jina_ai", "/v1"), ("infinity", ""), ("hosted_vllm", ""), ("huggingface", "")],
)
def test_litellm(server, scores, provider, path, monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it asks the internet for prices
    litellm = pytest.importorskip("litellm")
    # Infinity's documents come back as strings, those of vLLM and Cohere, which share its path, as objects.
    options = {"return_documents": False} if provider == "infinity" else {}
    model, base = f"{provider}/rerank-v3.5", server + path
    found = litellm.rerank(model=model, query=QUERY, documents=TEXTS, top_n=3, api_base=base, api_key=KEY, **options)
    results = sorted(found.results, key=lambda one: -one["relevance_score"])[:3]
    _check([(TEXTS[one["index"]], one["relevance_score"]) for one in results], scores, 3)


def test_the_cohere_package_itself(server, scores):
    cohere = pytest.importorskip("cohere")
    first = cohere.Client(api_key=KEY, base_url=server).rerank(
        model="rerank-v3.5", query=QUERY, documents=TEXTS, top_n=2, return_documents=True
    )
    _check([(one.document.text, one.relevance_score) for one in first.results], scores, 2)
    with pytest.raises(Exception, match="asks for its key"):
        cohere.ClientV2(api_key="another", base_url=server).rerank(model="rerank-v3.5", query=QUERY, documents=TEXTS)
