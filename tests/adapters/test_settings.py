"""Settings of the adapters: copies with other settings do what they say, and what has no text is left out if asked."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from biorerank_plugins import BiEncoder
from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.testing import ScriptedScorer

pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")
pytest.importorskip("langchain_core", reason="langchain-core is not installed")

TEXTS = ["1", "3", "2"]


def _numbers(sign: int = 1) -> ScriptedScorer:
    return ScriptedScorer(lambda _, text: sign * float(text))


def _by_llama_index(postprocessor: Any) -> list[str]:
    from llama_index.core.schema import NodeWithScore, TextNode

    nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
    return [one.node.text for one in postprocessor.postprocess_nodes(nodes, query_str="q")]


def _by_langchain(compressor: Any) -> list[str]:
    from langchain_core.documents import Document

    found = compressor.compress_documents([Document(text) for text in TEXTS], "q")
    return [one.page_content for one in found]


def _adapters() -> list[Any]:
    from biorerank_plugins.langchain import BioRerankCompressor
    from biorerank_plugins.llama_index import BioRerankPostprocessor

    return [
        pytest.param(BioRerankPostprocessor, _by_llama_index, id="llama_index"),
        pytest.param(BioRerankCompressor, _by_langchain, id="langchain"),
    ]


@pytest.mark.parametrize(("adapter", "ranked"), _adapters())
def test_a_copy_with_other_settings_ranks_with_them(adapter: Any, ranked: Any):
    first = adapter(model=_numbers(), top_n=1)
    more = first.model_copy(update={"top_n": 3})
    assert (more.top_n, ranked(more)) == (3, ["3", "2", "1"])
    other = more.model_copy(update={"model": _numbers(-1)})
    assert ranked(other) == ["1", "2", "3"]
    assert (first.top_n, ranked(first)) == (1, ["3"])
    assert ranked(first.model_copy()) == ["3"]
    for wrong in ({"top_n": 0}, {"nonsense": 1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            first.model_copy(update=wrong)


def test_a_copy_of_a_retriever_finds_with_its_settings(tiny_encoder_dir: Path):
    from langchain_core.documents import Document

    from biorerank_plugins.langchain import BioRetriever

    encoder = BiEncoder(tiny_encoder_dir, device="cpu")
    retriever = BioRetriever.from_documents([Document(text) for text in TEXTS], encoder=encoder, k=1)
    assert len(retriever.model_copy(update={"k": 2}).invoke("3")) == 2
    with pytest.raises(ValueError, match="k must be a whole number"):
        retriever.model_copy(update={"k": 0})


def test_a_copy_of_an_embedding_embeds_with_its_settings(tiny_encoder_dir: Path):
    from biorerank_plugins.llama_index import BioEmbedding

    first = BioEmbedding(tiny_encoder_dir, device="cpu", dtype="float32")
    before = first.get_query_embedding("p53 suppresses tumours")
    cut = first.model_copy(update={"query_max_length": 4})
    assert cut.get_query_embedding("p53 suppresses tumours") != before
    assert cut.get_query_embedding("p53") == first.get_query_embedding("p53")


def _indexed(host: str, encoder: BiEncoder, texts: list[str], **options: Any) -> tuple[list[str], tuple[str, ...]]:
    """Return the ids that a host's retriever over texts finds, and those it left out; ids are places."""
    if host == "llama_index":
        from llama_index.core.schema import ImageNode, TextNode

        from biorerank_plugins.llama_index import BioRetriever

        nodes = [TextNode(id_=str(n), text=t) if t else ImageNode(id_=str(n), image="") for n, t in enumerate(texts)]
        made = BioRetriever.from_nodes(nodes, encoder=encoder, **options)
        return [one.node_id for one in made.retrieve("p53")], made.left_out
    if host == "langchain":
        from langchain_core.documents import Document

        from biorerank_plugins.langchain import BioRetriever as OfLangChain

        retriever = OfLangChain.from_documents([Document(text) for text in texts], encoder=encoder, **options)
        return [str(one.id) for one in retriever.invoke("p53")], retriever.left_out
    from haystack import Document as HaystackDocument

    from biorerank_plugins.haystack import BioRetriever as OfHaystack

    documents = [HaystackDocument(id=str(n), content=text or None) for n, text in enumerate(texts)]
    component = OfHaystack(documents=documents, encoder=encoder, **options)
    return [one.id for one in component.run(query="p53")["documents"]], component.left_out


@pytest.mark.parametrize("host", ["llama_index", "langchain", "haystack"])
def test_what_has_no_text_is_refused_or_left_out_and_named(
    host: str, tiny_encoder_dir: Path, caplog: pytest.LogCaptureFixture
):
    if host == "haystack":
        pytest.importorskip("haystack", reason="haystack-ai is not installed")
    encoder = BiEncoder(tiny_encoder_dir, device="cpu")
    texts = ["p53 suppresses tumours", "", "aspirin"]
    with pytest.raises(ValueError, match="'1'"):
        _indexed(host, encoder, texts)
    with caplog.at_level(logging.WARNING, "biorerank_plugins"):
        found, left_out = _indexed(host, encoder, texts, on_bad="skip")
    assert (sorted(found), left_out) == (["0", "2"], ("1",))
    assert "Without text and left out: 1 of the objects to index ('1')." in caplog.text
    with pytest.raises(ValueError, match="on_bad must be 'error' or 'skip'"):
        _indexed(host, encoder, texts, on_bad="ignore")
    with pytest.raises(PassageIndexError):
        _indexed(host, encoder, [""], on_bad="skip")
