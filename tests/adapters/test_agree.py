"""The same candidates through plain Python, LlamaIndex, Haystack and LangChain: the same order, the same bits."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # before Haystack is imported

import haystack
import numpy as np
import pytest
from haystack.utils import ComponentDevice
from langchain_core.documents import Document as LangChainDocument
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode
from support import DEMO
from support.texts import WORDS

from biorerank_plugins import BiEncoder, BioReranker, Candidate, Passage, PassageIndex, TwoStageSearch, models
from biorerank_plugins import haystack as bio_haystack
from biorerank_plugins import langchain as bio_langchain
from biorerank_plugins import llama_index as bio_llama_index
from biorerank_plugins.adapters_common import HostTexts
from biorerank_plugins.readers import read_passages, read_queries

QUERY = "is p53 a tumour suppressor"
CPU = {"device": "cpu", "dtype": "float32"}

Line = tuple[str, float, float | None]
"""Id, score and retrieval score."""


def _passages(n: int) -> list[Passage]:
    """Passages of all lengths, with titles, an empty one, and two whose texts are the same."""
    draw = np.random.default_rng(3)
    passages = [
        Passage(f"p{i}", " ".join(draw.choice(WORDS, draw.integers(1, 60))), f"title {i}" if i % 3 else None)
        for i in range(n - 4)
    ]
    long = " ".join(draw.choice(WORDS, 400))
    return [*passages, Passage("empty", ""), Passage("long", long, "long"), Passage("a", "p53"), Passage("b", "p53")]


def _candidates(passages: list[Passage]) -> list[Candidate]:
    """As a first stage gives them; one without a score."""
    scores = [round(1 - number / 100, 3) for number in range(len(passages))]
    scores[2] = None
    return [Candidate(passage, scores[i], i + 1) for i, passage in enumerate(passages)]


def _titled(passage: Passage) -> dict[str, Any]:
    return {} if passage.title is None else {"title": passage.title}


# One path for each host: from candidates to lines, sync and async


class Plain:
    def __init__(self, model: Any, top: int, **options: Any) -> None:
        self.texts = HostTexts(model, None)
        self.reranker, self.top, self.options = BioReranker(model, template=self.texts.template, **CPU), top, options

    def lines(self, ranking: Any) -> list[Line]:
        return [(line.passage.id, line.score, line.retrieval_score) for line in ranking]

    def run(self, query: str, candidates: list[Candidate]) -> list[Line]:
        return self.lines(self.reranker.rank(query, candidates, top_k=self.top, **self.options))

    async def arun(self, query: str, candidates: list[Candidate]) -> list[Line]:
        return self.lines(await self.reranker.arank(query, candidates, top_k=self.top, **self.options))


class LlamaIndex:
    def __init__(self, model: Any, top: int, **options: Any) -> None:
        self.postprocessor = bio_llama_index.BioRerankPostprocessor(model=model, top_n=top, **CPU, **options)

    def nodes(self, candidates: list[Candidate]) -> list[NodeWithScore]:
        # A foreign model reads what LlamaIndex calls EMBED content; without titles in it, that is the text.
        excluded = [] if self.postprocessor._texts.own else ["title"]
        return [
            NodeWithScore(
                node=TextNode(
                    id_=c.passage.id,
                    text=c.passage.text,
                    metadata=_titled(c.passage),
                    excluded_embed_metadata_keys=excluded,
                ),
                score=c.score,
            )
            for c in candidates
        ]

    def lines(self, nodes: list[NodeWithScore]) -> list[Line]:
        json.dumps([one.to_dict() for one in nodes], allow_nan=False)
        return [(one.node_id, one.score, one.node.metadata.get("retrieval_score")) for one in nodes]

    def run(self, query: str, candidates: list[Candidate]) -> list[Line]:
        return self.lines(self.postprocessor.postprocess_nodes(self.nodes(candidates), query_str=query))

    async def arun(self, query: str, candidates: list[Candidate]) -> list[Line]:
        bundle = QueryBundle(query)
        return self.lines(await self.postprocessor.apostprocess_nodes(self.nodes(candidates), query_bundle=bundle))


class Haystack:
    def __init__(self, model: Any, top: int, **options: Any) -> None:
        cpu = {"device": ComponentDevice.from_str("cpu"), "dtype": "float32"}
        self.ranker = bio_haystack.BioRanker(model=model, top_k=top, **cpu, **options)

    def documents(self, candidates: list[Candidate]) -> list[haystack.Document]:
        return [
            haystack.Document(id=c.passage.id, content=c.passage.text, meta=_titled(c.passage), score=c.score)
            for c in candidates
        ]

    def lines(self, result: dict[str, list[haystack.Document]]) -> list[Line]:
        found = result["documents"]
        json.dumps([document.to_dict() for document in found], allow_nan=False)
        return [(one.id, one.score, one.meta.get("biorerank_retrieval_score")) for one in found]

    def run(self, query: str, candidates: list[Candidate]) -> list[Line]:
        return self.lines(self.ranker.run(query=query, documents=self.documents(candidates)))

    async def arun(self, query: str, candidates: list[Candidate]) -> list[Line]:
        return self.lines(await self.ranker.run_async(query=query, documents=self.documents(candidates)))


class LangChain:
    def __init__(self, model: Any, top: int, **options: Any) -> None:
        self.compressor = bio_langchain.BioRerankCompressor(model=model, top_n=top, **CPU, **options)

    def documents(self, candidates: list[Candidate]) -> list[LangChainDocument]:
        return [
            LangChainDocument(
                id=c.passage.id,
                page_content=c.passage.text,
                metadata=_titled(c.passage) | ({} if c.score is None else {"retrieval_score": c.score}),
            )
            for c in candidates
        ]

    def lines(self, documents: list[LangChainDocument]) -> list[Line]:
        json.dumps([document.metadata for document in documents], allow_nan=False)
        return [(one.id, one.metadata["relevance_score"], one.metadata.get("retrieval_score")) for one in documents]

    def run(self, query: str, candidates: list[Candidate]) -> list[Line]:
        return self.lines(self.compressor.compress_documents(self.documents(candidates), query))

    async def arun(self, query: str, candidates: list[Candidate]) -> list[Line]:
        return self.lines(await self.compressor.acompress_documents(self.documents(candidates), query))


HOSTS = (LlamaIndex, Haystack, LangChain)


@pytest.fixture(params=["foreign", "with a template"])
def folder(request: pytest.FixtureRequest, tiny_cross_encoder_dir: Path, tmp_path: Path) -> Path:
    """The tiny model as a foreign one, and as one of ours, which stores a template and a fusion weight."""
    if request.param == "foreign":
        return tiny_cross_encoder_dir
    folder = shutil.copytree(tiny_cross_encoder_dir, tmp_path / "model")
    stored = {"template": "{title}. {text}", "fusion": {"lexical": 0.5, "tiny-encoder": 40}}
    (folder / "biorerank.json").write_text(json.dumps(stored), encoding="utf-8")
    return folder


def _read_by(path: Plain, passages: list[Passage]) -> list[Passage]:
    """What plain Python gives to a foreign model: the text alone, as the hosts do."""
    return passages if path.texts.own else [Passage(p.id, p.text) for p in passages]


def _assert_agree(make: Callable[[type], Any], query: str, candidates: list[Candidate]) -> list[Line]:
    """Run all paths, sync and async, and return what they agree on."""
    plain = make(Plain)
    given = _read_by(plain, [candidate.passage for candidate in candidates])
    own = [Candidate(p, c.score, c.rank, c.first_stage) for p, c in zip(given, candidates, strict=True)]
    expected = plain.run(query, own)
    assert asyncio.run(plain.arun(query, own)) == expected
    for host in HOSTS:
        path = make(host)
        assert path.run(query, candidates) == expected, host.__name__
        assert asyncio.run(path.arun(query, candidates)) == expected, f"{host.__name__}, async"
    for name, score, found in expected:
        assert type(score) is float and (found is None or type(found) is float), name
    return expected


@pytest.mark.parametrize("n", [4, 60])
@pytest.mark.parametrize("top", [1, 10, 1000])
def test_order_and_bits_are_the_same(folder, n, top):
    lines = _assert_agree(lambda host: host(folder, top), QUERY, _candidates(_passages(n)))
    assert len(lines) == min(top, n)
    scores = [score for _, score, _ in lines]
    assert scores == sorted(scores, reverse=True)


def test_with_options(folder):
    candidates = _candidates(_passages(40))
    every = _assert_agree(lambda host: host(folder, 100), QUERY, candidates)
    middle = sorted(score for _, score, _ in every)[20]
    for options in (
        {"min_probability": middle},
        {"fusion": 2.0},
        {"fusion": None},
        {"deduplicate": "text"},
        {"deduplicate": ["id", "text"]},
        {"query_prefix": "query: ", "document_prefix": "passage: "},
        {"max_length": 32},
        {"template": "{text} ({title})"},
        {"batch_size": 2},
    ):

        def make(host: type, options: dict[str, Any] = options) -> Any:
            if host is not Plain:
                return host(folder, 100, **options)
            path, rest = Plain(folder, 100), dict(options)
            making = {k: rest.pop(k) for k in ("query_prefix", "document_prefix", "max_length") if k in rest}
            if "template" in rest:
                making["template"] = rest.pop("template")
                path.texts = HostTexts(folder, making["template"])
            if "batch_size" in rest:
                making["max_batch_tokens"] = rest.pop("batch_size") * 512
            path.reranker = BioReranker(folder, **{"template": path.texts.template, **CPU, **making})
            path.options = rest
            return path

        lines = _assert_agree(make, QUERY, candidates)
        if "min_probability" in options:
            assert 0 < len(lines) < len(every)
        if "deduplicate" in options:
            assert len(lines) == len(every) - 1
        if options == {"fusion": 2.0}:
            assert lines != every


def test_a_second_reader_reads_alike(tiny_cross_encoder_dir, tiny_encoder_dir, tmp_path):
    model = shutil.copytree(tiny_cross_encoder_dir, tmp_path / "model")
    fusion = {str(tiny_encoder_dir): {"weight": 5, "reference": 0.5}}
    stored = {"fusion": fusion, "second_reader": {"encoder": str(tiny_encoder_dir), "rank_weight": 0.5}}
    (model / "biorerank.json").write_text(json.dumps({"template": "{title}. {text}", **stored}), "utf-8")
    candidates = _candidates(_passages(30))
    read = _assert_agree(lambda host: host(model, 100, fusion="second-reader"), QUERY, candidates)
    assert read != _assert_agree(lambda host: host(model, 100), QUERY, candidates)


def test_an_object_as_the_model():
    class FirstWord:
        def logits(self, query: str, texts: list[str]) -> list[float]:
            return [float(WORDS.index(text.split()[0])) if text else -1.0 for text in texts]

    model = FirstWord()
    _assert_agree(lambda host: host(model, 100), QUERY, _candidates(_passages(30)))


def test_bad_input_is_refused_alike(tiny_cross_encoder_dir):
    for host in HOSTS:
        for top in (0, -1, True, "5", 2.5, None):
            if host is LangChain and top is None:
                continue  # there it means all
            with pytest.raises((ValueError, TypeError), match=r"top_(n|k)"):
                host(tiny_cross_encoder_dir, top)
        path = host(tiny_cross_encoder_dir, 3)
        for query in ("", " \n"):
            for candidates in ([], _candidates(_passages(5))):
                with pytest.raises(ValueError, match="query"):
                    path.run(query, candidates)
                with pytest.raises(ValueError, match="query"):
                    asyncio.run(path.arun(query, candidates))
        assert path.run(QUERY, []) == asyncio.run(path.arun(QUERY, [])) == []


# Both stages


def _two_stages(
    index: PassageIndex, model: Any, first_stage: Any, k: int, top: int, options: dict[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Name, sync call and async call of each host's retriever followed by its reranker."""
    retriever = bio_llama_index.BioRetriever(index=index, similarity_top_k=k, first_stage=first_stage)
    llama = LlamaIndex(model, top, **options)
    process, aprocess = llama.postprocessor.postprocess_nodes, llama.postprocessor.apostprocess_nodes

    async def llama_async(query: str) -> list[Line]:
        return llama.lines(await aprocess(await retriever.aretrieve(query), query_str=query))

    yield "LlamaIndex", lambda query: llama.lines(process(retriever.retrieve(query), query_str=query)), llama_async

    finder = bio_haystack.BioRetriever(index, top_k=k, first_stage=first_stage)
    hay = Haystack(model, top, **options)

    def hay_sync(query: str) -> list[Line]:
        return hay.lines(hay.ranker.run(query=query, documents=finder.run(query=query)["documents"]))

    async def hay_async(query: str) -> list[Line]:
        found = (await finder.run_async(query=query))["documents"]
        return hay.lines(await hay.ranker.run_async(query=query, documents=found))

    yield "Haystack", hay_sync, hay_async

    searcher = bio_langchain.BioRetriever(index=index, k=k, first_stage=first_stage)
    chain = LangChain(model, top, **options)
    compress, acompress = chain.compressor.compress_documents, chain.compressor.acompress_documents

    async def chain_async(query: str) -> list[Line]:
        return chain.lines(list(await acompress(await searcher.ainvoke(query), query)))

    yield "LangChain", lambda query: chain.lines(list(compress(searcher.invoke(query), query))), chain_async


def _assert_two_stages_agree(
    index: PassageIndex, model: Any, first_stage: Any, questions: list[str], k: int, top: int, **options: Any
) -> list[list[Line]]:
    reranker = BioReranker(model, **CPU)
    search = TwoStageSearch(index, reranker, first_stage=first_stage)
    expected = [
        [
            (line.passage.id, line.score, line.retrieval_score)
            for line in search.search(question, candidates=k, top_k=top, **options)
        ]
        for question in questions
    ]
    for name, sync, awaitable in _two_stages(index, model, first_stage, k, top, options):
        for question, lines in zip(questions, expected, strict=True):
            assert sync(question) == lines, name
            assert asyncio.run(awaitable(question)) == lines, f"{name}, async"
    return expected


@pytest.mark.parametrize("first_stage", ["hybrid", "dense", "lexical"])
def test_both_stages_with_stored_weights(tiny_cross_encoder_dir, tiny_encoder_dir, tmp_path, first_stage):
    encoder = BiEncoder(tiny_encoder_dir, device="cpu")
    model = shutil.copytree(tiny_cross_encoder_dir, tmp_path / "model")
    weights = {"lexical": 1e4, encoder.model_id: 1e4}
    (model / "biorerank.json").write_text(json.dumps({"template": "{title}. {text}", "fusion": weights}), "utf-8")
    index = PassageIndex.build([p for p in _passages(40) if p.text], encoder=encoder)
    [lines] = _assert_two_stages_agree(index, model, first_stage, [QUERY], 20, 10)
    if first_stage != "hybrid":  # for which the tiny encoder stores nothing
        found = [candidate.passage.id for candidate in index.search(QUERY, len(lines), first_stage=first_stage)]
        by_model = TwoStageSearch(index, BioReranker(model, **CPU), first_stage=first_stage).search(
            QUERY, candidates=20, top_k=10, fusion=None
        )
        assert [name for name, _, _ in lines] != [line.passage.id for line in by_model]
        assert found[0] == lines[0][0]  # the weight is large: the first stage decides


def test_both_stages_with_effort_as_it_is_needed(tiny_cross_encoder_dir, tiny_encoder_dir, tmp_path):
    encoder = BiEncoder(tiny_encoder_dir, device="cpu")
    model = shutil.copytree(tiny_cross_encoder_dir, tmp_path / "model")
    fusion = {encoder.model_id: {"weight": 300, "reference": 0.5, "quantile": 0.5}}
    (model / "biorerank.json").write_text(json.dumps({"template": "{title}. {text}", "fusion": fusion}), "utf-8")
    index = PassageIndex.build([p for p in _passages(40) if p.text], encoder=encoder)
    _assert_two_stages_agree(index, model, "dense", [QUERY], 40, 3, effort="auto")
    search = TwoStageSearch(index, BioReranker(model, **CPU), first_stage="dense")
    assert search.search(QUERY, candidates=40, top_k=3, effort="auto").unread > 0


embedded = pytest.mark.skipif(
    not {models.DEFAULT_RERANKER, models.DEFAULT_ENCODER} <= set(models.names()),
    reason="the embedded models are not here",
)


@embedded
def test_the_demo_collection_with_the_embedded_models(no_network):
    index = PassageIndex.build(list(read_passages(DEMO / "corpus.jsonl"))[:20])
    question = read_queries(DEMO / "queries.jsonl")[0].text
    for first_stage in ("hybrid", "dense", "lexical"):
        _assert_two_stages_agree(index, None, first_stage, [question], 6, 5)


@embedded
@pytest.mark.data
def test_bioasq_with_the_embedded_models(data_dir):
    path = data_dir / "bioasq" / "dev.jsonl.gz"
    passages = list({passage.id: passage for passage in read_passages(path)}.values())[:20]
    questions = [query.text for query in read_queries(path)[:2]]
    _assert_two_stages_agree(PassageIndex.build(passages), None, "hybrid", questions, 6, 5)


def test_evidence_is_the_same_everywhere_and_no_model_reads_it(tiny_cross_encoder_dir):
    query, text = "which drug inhibits platelets", "The heart divides. Aspirin inhibits platelets. Cells divide."
    plain = BioReranker(tiny_cross_encoder_dir, dtype="float32").rank(query, [text], evidence=2)
    expected = [dataclasses.asdict(sentence) for sentence in plain[0].evidence]
    assert [text[one["start"] : one["end"]] for one in expected] == [one["text"] for one in expected]

    postprocessor = bio_llama_index.BioRerankPostprocessor(str(tiny_cross_encoder_dir), dtype="float32", evidence=2)
    [node] = postprocessor.postprocess_nodes([NodeWithScore(node=TextNode(text=text))], query_str=query)
    assert node.node.metadata["biorerank_evidence"] == expected
    assert node.node.get_content(MetadataMode.EMBED) == node.node.get_content(MetadataMode.LLM) == text
    [again] = postprocessor.postprocess_nodes([node], query_str=query)
    assert again.score == node.score

    ranker = bio_haystack.BioRanker(model=str(tiny_cross_encoder_dir), dtype="float32", evidence=2)
    [document] = ranker.run(query=query, documents=[haystack.Document(content=text)])["documents"]
    assert document.meta["biorerank_evidence"] == expected
    assert ranker.run(query=query, documents=[document])["documents"][0].score == document.score

    compressor = bio_langchain.BioRerankCompressor(model=str(tiny_cross_encoder_dir), dtype="float32", evidence=2)
    [found] = compressor.compress_documents([LangChainDocument(page_content=text)], query)
    assert found.metadata["biorerank_evidence"] == expected
    [again] = compressor.compress_documents([found], query)
    assert again.metadata["relevance_score"] == found.metadata["relevance_score"]


def test_what_the_user_calls_evidence_is_left_alone(tiny_cross_encoder_dir):
    own = {"evidence": "Level A"}
    postprocessor = bio_llama_index.BioRerankPostprocessor(str(tiny_cross_encoder_dir), dtype="float32", evidence=1)
    nodes = [NodeWithScore(node=TextNode(text="Aspirin.", metadata=own))]
    assert postprocessor.postprocess_nodes(nodes, query_str="q")[0].node.metadata["evidence"] == "Level A"
    compressor = bio_langchain.BioRerankCompressor(model=str(tiny_cross_encoder_dir), dtype="float32", evidence=1)
    [found] = compressor.compress_documents([LangChainDocument(page_content="Aspirin.", metadata=own)], "q")
    assert found.metadata["evidence"] == "Level A"


def test_haystack_says_when_there_is_no_evidence(tiny_cross_encoder_dir, tmp_path):
    for threshold, expected in ((1.0, True), (0.0, False)):
        folder = tmp_path / str(threshold)
        shutil.copytree(tiny_cross_encoder_dir, folder)
        (folder / "biorerank.json").write_text(json.dumps({"calibration": {"evidence_threshold": threshold}}))
        ranker = bio_haystack.BioRanker(model=str(folder), no_evidence_output=True)
        result = ranker.run(query="q", documents=[haystack.Document(content="aspirin")])
        assert result["no_evidence"] is expected
        assert [one.meta["biorerank_no_evidence"] for one in result["documents"]] == [expected]
