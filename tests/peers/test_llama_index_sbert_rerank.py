"""LlamaIndex's ``SentenceTransformerRerank`` (both of them) beside ours: same model, same nodes, one process."""

from __future__ import annotations

import asyncio
import inspect
import math
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from llama_index.core import VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import MockLLM
from llama_index.core.postprocessor import SentenceTransformerRerank as CoreRerank
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode
from llama_index.postprocessor.sbert_rerank import SentenceTransformerRerank as PackageRerank
from pydantic_core import PydanticSerializationError
from support.texts import WORDS

from biorerank_plugins.errors import ScoringError
from biorerank_plugins.llama_index import BioRerankPostprocessor

QUERY = "is p53 a tumour suppressor"
THEIRS = pytest.mark.parametrize("theirs", [PackageRerank, CoreRerank], ids=["package", "core"])


def nodes(n: int = 20, longest: int = 25) -> list[NodeWithScore]:
    draw = np.random.default_rng(3)
    texts = [" ".join(draw.choice(WORDS, draw.integers(1, longest))) for _ in range(n)]
    return [
        NodeWithScore(node=TextNode(id_=f"n{i}", text=text, metadata={"pmid": str(i)}), score=1 - i / 100)
        for i, text in enumerate(texts)
    ]


def both(theirs: type, folder: Path, **settings) -> tuple[BaseNodePostprocessor, BioRerankPostprocessor]:
    return (
        theirs(model=str(folder), device="cpu", **settings),
        BioRerankPostprocessor(model=str(folder), device="cpu", dtype="float32", **settings),
    )


def pairs(found) -> list[tuple[str, float]]:
    return [(one.node.node_id, float(one.score)) for one in found]


# Where theirs is right


@THEIRS
@pytest.mark.parametrize("top_n", [1, 2, 7, 20, 99])
def test_same_order_and_same_values(theirs, tiny_cross_encoder_dir, top_n):
    their, our = both(theirs, tiny_cross_encoder_dir, top_n=top_n)
    expected = pairs(their.postprocess_nodes(nodes(), query_str=QUERY))
    found = pairs(our.postprocess_nodes(nodes(), query_str=QUERY))
    assert [node_id for node_id, _ in found] == [node_id for node_id, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-5)
    assert len(found) == min(top_n, 20)
    asynchronous = asyncio.run(our.apostprocess_nodes(nodes(), query_bundle=QueryBundle(QUERY)))
    assert pairs(asynchronous) == found


@THEIRS
def test_same_answer_in_a_query_engine(theirs, tiny_cross_encoder_dir, no_network):
    """The swap: only the class is another one."""
    answers = []
    for reranker in both(theirs, tiny_cross_encoder_dir, top_n=3):
        index = VectorStoreIndex([one.node for one in nodes()], embed_model=MockEmbedding(embed_dim=2))
        engine = index.as_query_engine(llm=MockLLM(), similarity_top_k=20, node_postprocessors=[reranker])
        answers.append(engine.query(QUERY))
    assert str(answers[1]) == str(answers[0])
    assert [one.node_id for one in answers[1].source_nodes] == [one.node_id for one in answers[0].source_nodes]


@THEIRS
def test_a_model_that_is_none_of_the_embedded_has_the_activation_that_it_stores(
    theirs, tiny_cross_encoder_dir, tmp_path
):
    """Many published cross-encoders give logits."""
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(tiny_cross_encoder_dir), device="cpu", activation_fn=torch.nn.Identity())
    model.save_pretrained(str(tmp_path / "model"))
    their, our = both(theirs, tmp_path / "model", top_n=20)
    expected = pairs(their.postprocess_nodes(nodes(), query_str=QUERY))
    assert min(score for _, score in expected) < 0
    assert dict(pairs(our.postprocess_nodes(nodes(), query_str=QUERY))) == pytest.approx(dict(expected), abs=1e-4)


@THEIRS
def test_same_errors_and_same_emptiness(theirs, tiny_cross_encoder_dir):
    for reranker in both(theirs, tiny_cross_encoder_dir):
        assert reranker.postprocess_nodes([], query_str=QUERY) == []
        with pytest.raises(ValueError, match="query"):
            reranker.postprocess_nodes(nodes())
        with pytest.raises(ValueError, match="both query_str and query_bundle"):
            reranker.postprocess_nodes(nodes(), query_bundle=QueryBundle(QUERY), query_str=QUERY)


# The swap, argument by argument


def their_arguments() -> dict[str, object]:
    """Every argument of either class, as the installed versions have them, with its default."""
    found: dict[str, object] = {}
    for theirs in (PackageRerank, CoreRerank):
        found |= {p.name: p.default for p in inspect.signature(theirs.__init__).parameters.values() if p.name != "self"}
    return found


VALUES = {
    "model": "cross-encoder/stsb-distilroberta-base",
    "top_n": 5,
    "device": "cpu",
    "keep_retrieval_score": True,
    "cache_folder": "some/folder",
    "cross_encoder_kwargs": {"max_length": 256},
    "trust_remote_code": False,
}


def test_every_argument_of_theirs_is_accepted(no_network):
    assert their_arguments().keys() == VALUES.keys(), "theirs has changed: map what is new"
    assert (
        BioRerankPostprocessor(**VALUES).to_dict().items()
        >= {
            "model": "cross-encoder/stsb-distilroberta-base",
            "top_n": 5,
            "device": "cpu",
            "keep_retrieval_score": True,
            "cache_folder": "some/folder",
            "max_length": 256,
        }.items()
    )
    for name, value in VALUES.items():
        BioRerankPostprocessor(**{name: value})


def test_defaults_are_theirs_where_the_table_does_not_say_otherwise():
    ours, theirs = BioRerankPostprocessor(), their_arguments()
    assert (ours.top_n, ours.device, ours.cache_folder) == (theirs["top_n"], theirs["device"], theirs["cache_folder"])
    assert ours.max_length == 512, "which theirs gives to its CrossEncoder"
    assert (ours.keep_retrieval_score, theirs["keep_retrieval_score"]) == (True, False), "ours does no harm"
    assert (ours.model, theirs["trust_remote_code"]) == (None, True)


def test_the_table_of_the_docstring_names_them_all():
    for name in their_arguments():
        assert f"``{name}``" in BioRerankPostprocessor.__doc__


def test_a_model_may_be_given_by_position_as_in_the_package():
    assert BioRerankPostprocessor("cross-encoder/stsb-distilroberta-base").model == VALUES["model"]
    with pytest.raises(ValueError, match="top_n=5"):
        BioRerankPostprocessor(5)  # as in LlamaIndex's core


def test_every_argument_of_a_cross_encoder_is_mapped_or_refused_by_name(no_network):
    from sentence_transformers import CrossEncoder

    names = [name for name in inspect.signature(CrossEncoder.__init__).parameters if name not in ("self", "kwargs")]
    values = {"backend": "torch", "local_files_only": True, "max_length": 64, "trust_remote_code": False}
    taken = {"cache_folder", "revision", "token", *values}
    assert taken < set(names)
    for name in names:
        value = values.get(name, "x" if name in taken else {"a": "b"})
        if name in taken:
            reranker = BioRerankPostprocessor(cross_encoder_kwargs={name: value})
            assert name == "trust_remote_code" or getattr(reranker, name) == value
        else:
            with pytest.raises(ValueError, match=name if name != "modules" else "CrossEncoder object"):
                BioRerankPostprocessor(cross_encoder_kwargs={name: value})


def test_what_else_cross_encoder_kwargs_may_hold(tiny_cross_encoder_dir):
    reranker = BioRerankPostprocessor(cross_encoder_kwargs={"model_kwargs": {"torch_dtype": torch.float32}})
    assert reranker.dtype == "float32"
    assert BioRerankPostprocessor(cross_encoder_kwargs=None).max_length == 512
    BioRerankPostprocessor(cross_encoder_kwargs={"num_labels": 1, "activation_fn": None, "config_kwargs": {}})
    for kwargs, message in (
        ({"trust_remote_code": True}, "never run"),
        ({"model_kwargs": {"trust_remote_code": True}}, "never run"),
        ({"model_kwargs": {"attn_implementation": "sdpa"}}, "attn_implementation"),
        ({"num_labels": 2}, "one label"),
        ({"device": "cpu"}, "'device' does not belong"),
        ({"model": "x"}, "'model' does not belong"),
        ({"batch": 3}, "'batch'.*unknown"),
    ):
        with pytest.raises(ValueError, match=message):
            BioRerankPostprocessor(cross_encoder_kwargs=kwargs)
    with pytest.raises(ValueError, match="device"):
        PackageRerank(model=str(tiny_cross_encoder_dir), cross_encoder_kwargs={"device": "cpu"})


# Where theirs is wrong: each of these once cost somebody a day


@THEIRS
def test_theirs_changes_the_callers_nodes(theirs, tiny_cross_encoder_dir):
    their, our = both(theirs, tiny_cross_encoder_dir, keep_retrieval_score=True)
    given, before = nodes(), [one.to_dict() for one in nodes()]
    our.postprocess_nodes(given, query_str=QUERY)
    assert [one.to_dict() for one in given] == before
    their.postprocess_nodes(given, query_str=QUERY)
    assert given[0].score != before[0]["score"]
    assert "retrieval_score" in given[0].metadata


@THEIRS
def test_theirs_writes_the_retrieval_score_into_the_text(theirs, tiny_cross_encoder_dir):
    for reranker, leaks in zip(
        both(theirs, tiny_cross_encoder_dir, keep_retrieval_score=True), (True, False), strict=True
    ):
        found = reranker.postprocess_nodes(nodes(), query_str=QUERY)
        for mode in (MetadataMode.EMBED, MetadataMode.LLM):
            assert ("retrieval_score" in found[0].get_content(mode)) is leaks


@THEIRS
def test_theirs_forgets_the_retrieval_score_on_a_second_pass(theirs, tiny_cross_encoder_dir):
    for reranker, kept in zip(
        both(theirs, tiny_cross_encoder_dir, keep_retrieval_score=True), (False, True), strict=True
    ):
        again = reranker.postprocess_nodes(reranker.postprocess_nodes(nodes(), query_str=QUERY), query_str=QUERY)
        first = {one.node_id: one.score for one in nodes()}
        assert bool(again[0].metadata["retrieval_score"] == first[again[0].node_id]) is kept


@pytest.fixture(scope="module")
def nan_dir(tiny_cross_encoder_dir: Path, tmp_path_factory) -> Path:
    """A model that gives NaN for a text with the word "kidney", as overflow in half precision does."""
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("nan") / "model"
    shutil.copytree(tiny_cross_encoder_dir, folder)
    weights = load_file(folder / "model.safetensors")
    [name] = [name for name in weights if name.endswith("word_embeddings.weight")]
    weights[name][AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids("kidney")] = math.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@THEIRS
def test_theirs_leaves_the_list_unsorted_at_a_nan(theirs, nan_dir):
    given = nodes()
    for place in (3, 8, 13):
        given[place].node.text = "the kidney"
    their, our = both(theirs, nan_dir, top_n=20)
    with pytest.raises(ScoringError, match="n3, n8, n13"):
        our.postprocess_nodes(given, query_str=QUERY)
    scores = [one.score for one in their.postprocess_nodes(given, query_str=QUERY)]
    finite = [score for score in scores if not math.isnan(score)]
    assert len(finite) == 17
    assert finite != sorted(finite, reverse=True)


@THEIRS
def test_theirs_breaks_on_a_long_passage_where_the_model_reads_fewer_than_512_tokens(theirs, tiny_cross_encoder_dir):
    their, our = both(theirs, tiny_cross_encoder_dir)
    long = [NodeWithScore(node=TextNode(id_="long", text="p53 gene " * 100))]
    assert len(our.postprocess_nodes(long, query_str=QUERY)) == 1
    with pytest.raises(RuntimeError, match="size of tensor"):
        their.postprocess_nodes(long, query_str=QUERY)


@THEIRS
def test_theirs_takes_any_top_n(theirs, tiny_cross_encoder_dir):
    assert len(theirs(model=str(tiny_cross_encoder_dir), device="cpu", top_n=-1).postprocess_nodes(
        nodes(), query_str=QUERY
    )) == 19  # fmt: skip
    assert (
        theirs(model=str(tiny_cross_encoder_dir), device="cpu", top_n=0).postprocess_nodes(nodes(), query_str="q") == []
    )
    for top_n in (-1, 0):
        with pytest.raises(ValueError, match=f"top_n.*{top_n}"):
            BioRerankPostprocessor(top_n=top_n)


@THEIRS
def test_theirs_keeps_an_empty_question(theirs, tiny_cross_encoder_dir):
    their, our = both(theirs, tiny_cross_encoder_dir)
    assert len(their.postprocess_nodes(nodes(), query_str="")) == 2
    with pytest.raises(ValueError, match="The query is empty"):
        our.postprocess_nodes(nodes(), query_str="")


def test_theirs_loses_settings_when_it_is_saved(tiny_cross_encoder_dir):
    settings = {"device": "cpu", "cache_folder": str(tiny_cross_encoder_dir.parent)}
    their = PackageRerank(model=str(tiny_cross_encoder_dir), **settings)
    our = BioRerankPostprocessor(model=str(tiny_cross_encoder_dir), **settings)
    assert not settings.keys() & their.to_dict().keys()
    assert our.to_dict().items() >= settings.items()
    assert BioRerankPostprocessor.from_dict(our.to_dict()).to_dict() == our.to_dict()


def test_theirs_of_the_core_gives_scores_that_are_no_json(tiny_cross_encoder_dir):
    their, our = both(CoreRerank, tiny_cross_encoder_dir)
    our.postprocess_nodes(nodes(), query_str=QUERY)[0].model_dump_json()
    with pytest.raises(PydanticSerializationError):
        their.postprocess_nodes(nodes(), query_str=QUERY)[0].model_dump_json()


def test_theirs_of_the_core_runs_a_models_code_unless_told_not_to():
    assert inspect.signature(CoreRerank.__init__).parameters["trust_remote_code"].default is True
    with pytest.raises(ValueError, match="never run"):
        BioRerankPostprocessor(trust_remote_code=True)


class Names(BaseEventHandler):
    """Keeps the names of the events."""

    @classmethod
    def class_name(cls) -> str:
        return "Names"

    def handle(self, event, **_) -> None:
        SEEN.append(event.class_name())


SEEN: list[str] = []


@THEIRS
def test_theirs_starts_and_never_ends_for_an_empty_list(theirs, tiny_cross_encoder_dir):
    handler = Names()
    get_dispatcher().add_event_handler(handler)
    try:
        for reranker, expected in zip(
            both(theirs, tiny_cross_encoder_dir),
            (["ReRankStartEvent"] if theirs is PackageRerank else [], ["ReRankStartEvent", "ReRankEndEvent"]),
            strict=True,
        ):
            SEEN.clear()
            reranker.postprocess_nodes([], query_str=QUERY)
            assert expected == SEEN
    finally:
        get_dispatcher().event_handlers.remove(handler)


@THEIRS
def test_theirs_loads_its_model_in_the_constructor(theirs, tmp_path, tiny_cross_encoder_dir):
    shutil.copytree(tiny_cross_encoder_dir, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    start = time.perf_counter()
    BioRerankPostprocessor(tmp_path / "model")
    assert time.perf_counter() - start < 1
    with pytest.raises(OSError, match="model"):
        theirs(model=str(tmp_path / "model"), device="cpu")
