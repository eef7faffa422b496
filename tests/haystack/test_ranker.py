"""BioRanker: values and order of the core, the caller's documents, options, bad input."""

from __future__ import annotations

import asyncio
import copy
import json
import math
import pickle
import threading
import time
from pathlib import Path

import pytest
import torch
from haystack import Document, Pipeline
from haystack.components.joiners import BranchJoiner, DocumentJoiner
from haystack.dataclasses import ByteStream
from haystack.utils import ComponentDevice, Secret
from support.haystack import QUERY, documents, ids
from support.scorers import by_number, zero

from biorerank_plugins import BioReranker, Passage
from biorerank_plugins.adapters_common import FIRST_STAGE_KEY
from biorerank_plugins.errors import ModelError, ScoringTimeoutError
from biorerank_plugins.haystack import BioRanker
from biorerank_plugins.models import DEFAULT_RERANKER

KEY = "biorerank_retrieval_score"
CPU = ComponentDevice.from_str("cpu")


@pytest.fixture(scope="module")
def ranker(tiny_cross_encoder_dir: Path) -> BioRanker:
    return BioRanker(model=tiny_cross_encoder_dir, device=CPU, dtype="float32")


@pytest.fixture(scope="module")
def core(tiny_cross_encoder_dir: Path) -> BioReranker:
    return BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32", template="{text}")


def numbers(*values, **fields) -> list[Document]:
    return [Document(id=str(place), content=f"{value} x", **fields) for place, value in enumerate(values)]


# Order and values


def test_order_and_values_are_the_cores(ranker, core):
    given = documents()
    expected = core.rank(QUERY, [Passage(one.id, one.content) for one in given])
    found = ranker.run(query=QUERY, documents=given)["documents"]
    assert [(one.id, one.score) for one in found] == [(line.passage.id, line.score) for line in expected]
    logits = ranker.run(query=QUERY, documents=given, scale_score=False)["documents"]
    assert [(one.id, one.score) for one in logits] == [(line.passage.id, line.logit) for line in expected]
    assert all(type(one.score) is float for one in found + logits)


def test_async_gives_the_same(ranker):
    given = documents()

    async def many():
        return await asyncio.gather(*(ranker.run_async(query=QUERY, documents=given, top_k=4) for _ in range(8)))

    expected = ranker.run(query=QUERY, documents=given, top_k=4)
    assert all(result == expected for result in asyncio.run(many()))


def test_the_embedded_model_gives_what_the_core_gives_without_a_network(no_network):
    given = [
        Document(content="It suppresses tumours.", meta={"title": "TP53"}),
        Document(content="It has 11 exons.", meta={"title": "TP53"}),
        Document(content="Aspirin inhibits COX."),
    ]
    passages = [Passage(one.id, one.content, one.meta.get("title")) for one in given]
    expected = BioReranker(device="cpu", dtype="float32").rank("Is TP53 a tumour suppressor?", passages)
    found = BioRanker(device=CPU, dtype="float32").run(query="Is TP53 a tumour suppressor?", documents=given)
    assert ids(found) == [line.passage.id for line in expected]
    assert [one.score for one in found["documents"]] == [line.score for line in expected]


# The caller's documents


def test_new_documents_come_back_and_the_given_ones_stay_as_they_are(ranker):
    given = documents(embedding=[0.5, 0.25])
    before = copy.deepcopy(given)
    found = ranker.run(query=QUERY, documents=given)["documents"]
    assert given == before
    by_id = {one.id: one for one in given}
    for one in found:
        source = by_id[one.id]
        assert one is not source and one.meta is not source.meta and one.meta["tags"] is not source.meta["tags"]
        assert (one.content, one.embedding) == (source.content, source.embedding)
        assert one.meta == {**source.meta, KEY: source.score}
    json.dumps([one.to_dict() for one in found], allow_nan=False)


def test_documents_without_text_are_ranked():
    scorer = zero()
    given = [
        Document(id="none", content=None),
        Document(id="image", blob=ByteStream(b"x", mime_type="image/png")),
        Document(id="text", content="p53"),
    ]
    assert ids(BioRanker(model=scorer).run(query=QUERY, documents=given)) == ["none", "image", "text"]
    assert set(scorer.texts) == {"", "p53"}


@pytest.mark.parametrize("score", [None, math.nan, math.inf, -math.inf])
def test_a_score_that_is_none_is_not_kept(score):
    [found] = BioRanker(model=by_number()).run(query="q", documents=numbers(1, score=score))["documents"]
    assert found.meta == {}


def test_metadata_of_any_kind_passes_through(ranker):
    meta = {"a": 1, "b": None, "c": [1, {"d": 2.5}], "e": {"f": ["g"]}, "h": True, "i": "ü"}
    [found] = ranker.run(query=QUERY, documents=[Document(content="p53", meta=meta)])["documents"]
    assert found.meta == meta


def test_the_first_stages_score_survives_a_second_ranking_and_a_joiner():
    once = BioRanker(model=by_number()).run(query="q", documents=numbers(1, 2, score=0.75))["documents"]
    joined = [Document(id=one.id, content=one.content, meta=one.meta, score=0.01) for one in once]
    twice = BioRanker(model=by_number(), scale_score=False).run(query="q", documents=joined)["documents"]
    assert [(one.id, one.score, one.meta[KEY]) for one in twice] == [("1", 2.0, 0.75), ("0", 1.0, 0.75)]


# What the model reads


def test_a_foreign_model_reads_what_the_hosts_ranker_sends():
    scorer = zero()
    ranker = BioRanker(
        model=scorer,
        query_prefix="Q: ",
        query_suffix=" ?",
        document_prefix="D: ",
        document_suffix=" .",
        meta_fields_to_embed=["year", "flag", "missing", "none", "list"],
        embedding_separator=" | ",
    )
    meta = {"year": 0, "flag": False, "none": None, "list": ["x"], "title": "T"}
    ranker.run(query="p53", documents=[Document(content="text", meta=meta), Document(content=None, meta={"year": 1})])
    assert scorer.queries == ["Q: p53 ?"]
    assert scorer.texts == ["D: 0 | False | ['x'] | text .", "D: 1 |  ."]


def test_without_meta_fields_a_foreign_model_reads_the_content_alone():
    scorer = zero()
    BioRanker(model=scorer).run(query="p53", documents=[Document(content="text", meta={"title": "T"})])
    assert scorer.texts == ["text"]


def _model_with_settings(source: Path, folder: Path, **settings) -> Path:
    import shutil

    shutil.copytree(source, folder)
    (folder / "biorerank.json").write_text(json.dumps(settings))
    return folder


def test_a_model_that_stores_a_template_reads_title_and_content(tiny_cross_encoder_dir, core, tmp_path):
    folder = _model_with_settings(tiny_cross_encoder_dir, tmp_path / "own", template="{title}. {text}")
    given = [Document(content="suppresses tumours", meta={"title": "p53", "year": 1})]

    def score(**options) -> float:
        ranker = BioRanker(model=folder, device=CPU, dtype="float32", **options)
        return ranker.run(query=QUERY, documents=given)["documents"][0].score

    assert score() == core.score(QUERY, ["p53. suppresses tumours"])[0]
    assert score(document_suffix=" a") == core.score(QUERY, ["p53. suppresses tumours a"])[0]
    assert score(meta_fields_to_embed=["year"]) == core.score(QUERY, ["1\nsuppresses tumours"])[0]
    assert score(template="{text} ({year})") == core.score(QUERY, ["suppresses tumours (1)"])[0]


def test_a_template_is_an_order_to_a_foreign_model_too():
    scorer = zero()
    ranker = BioRanker(model=scorer, template="{title}: {text}", document_suffix="!")
    ranker.run(query="p53", documents=[Document(content="text", meta={"title": "T"}), Document(content="alone")])
    assert scorer.texts == ["T: text!", "alone!"]


def test_the_retrieval_score_is_in_no_text_that_the_model_reads():
    scorer = zero()
    meta = {KEY: 0.123, FIRST_STAGE_KEY: "lexical", "title": "T"}
    ranker = BioRanker(model=scorer, template=lambda passage: f"{passage.text} {dict(passage.metadata)}")
    ranker.run(query="p53", documents=[Document(content="text", meta=meta, score=0.123)])
    assert scorer.texts == ["text {'title': 'T'}"]
    with pytest.raises(ValueError, match="must not read a retrieval score"):
        BioRanker(model=scorer, meta_fields_to_embed=["year", KEY])


def test_a_long_document_does_not_cut_the_query(ranker, core):
    long = Document(content="the gene " * 10_000)
    scores = []
    for query in (QUERY, "what is insulin"):
        [found] = ranker.run(query=query, documents=[long])["documents"]
        assert found.score == core.rank(query, [long.content])[0].score
        scores.append(found.score)
    assert scores[0] != scores[1]


# Options


def test_top_k_of_a_call_and_of_the_component():
    given = numbers(1, 3, 2)
    ranker = BioRanker(model=by_number(), top_k=2)
    assert ids(ranker.run(query="q", documents=given)) == ["1", "2"]
    assert ids(ranker.run(query="q", documents=given, top_k=1)) == ["1"]
    assert ids(ranker.run(query="q", documents=given, top_k=99)) == ["1", "2", "0"]
    assert ids(ranker.run(query="q", documents=given)) == ["1", "2"]


def test_the_threshold_holds_for_the_score_that_is_returned():
    given = numbers(-1, 30, 0, 20)
    ranker = BioRanker(model=by_number(), score_threshold=0.5)
    assert ids(ranker.run(query="q", documents=given)) == ["1", "3", "2"]
    assert ids(ranker.run(query="q", documents=given, score_threshold=0.6)) == ["1", "3"]
    assert ids(ranker.run(query="q", documents=given, score_threshold=0.0)) == ["1", "3", "2", "0"]
    # The sigmoid of both 20 and 30 is 1.0 in fp32: only a threshold on the logit itself can tell them apart.
    assert ids(ranker.run(query="q", documents=given, scale_score=False, score_threshold=25)) == ["1"]
    assert ids(ranker.run(query="q", documents=given, scale_score=False, score_threshold=0.0)) == ["1", "3", "2"]
    assert ids(ranker.run(query="q", documents=given, scale_score=False, score_threshold=0, top_k=2)) == ["1", "3"]
    assert ids(BioRanker(model=by_number(), scale_score=False).run(query="q", documents=given)) == [
        "1",
        "3",
        "2",
        "0",
    ]


def test_min_probability():
    ranker = BioRanker(model=by_number(), min_probability=0.5)
    assert ids(ranker.run(query="q", documents=numbers(-1, 1))) == ["1"]
    assert ids(ranker.run(query="q", documents=numbers(-1, 1), score_threshold=0.99)) == []


def test_duplicates():
    given = [
        Document(id="x", content="1 a", meta={"pmid": 7}),
        Document(id="x", content="1 a", meta={"pmid": 7}, score=0.9),
        Document(id="y", content="1 A.", meta={"pmid": "7"}),
        Document(id="z", content="2 b"),
    ]

    def found(**options) -> list[str]:
        return ids(BioRanker(model=by_number(), **options).run(query="q", documents=given))

    assert found() == ["z", "x", "y"]
    assert found(deduplicate="text") == ["z", "x"]
    assert found(deduplicate=["id", "pmid"]) == ["z", "x"]
    assert found(deduplicate=None) == ["z", "x", "x", "y"]
    # Of one id the first stays, whatever the scores.
    [kept] = BioRanker(model=by_number()).run(query="q", documents=given[:2])["documents"]
    assert KEY not in kept.meta


def test_one_document_and_none():
    assert ids(BioRanker(model=by_number()).run(query="q", documents=numbers(1))) == ["0"]
    assert BioRanker(model=by_number()).run(query="q", documents=[]) == {"documents": []}
    told = BioRanker(model=by_number(), no_evidence_output=True).run(query="q", documents=[])
    assert told == {"documents": [], "no_evidence": False}


def test_it_connects_by_its_name_as_the_ranker_that_it_replaces():
    pipeline = Pipeline()
    pipeline.add_component("ranker", BioRanker(model=by_number()))
    pipeline.add_component("joiner", DocumentJoiner())
    pipeline.connect("ranker", "joiner.documents")
    found = pipeline.run({"ranker": {"query": "q", "documents": numbers(2)}})
    assert list(found) == ["joiner"]


def test_a_pipeline_saved_when_the_second_output_was_always_there_still_loads():
    pipeline = Pipeline()
    pipeline.add_component("ranker", BioRanker(no_evidence_output=True))
    pipeline.add_component("branch", BranchJoiner(bool))
    pipeline.connect("ranker.no_evidence", "branch")
    saved = pipeline.to_dict()
    del saved["components"]["ranker"]["init_parameters"]["no_evidence_output"]
    ranker = Pipeline.from_dict(saved).get_component("ranker")
    assert ranker.no_evidence_output is True
    assert BioRanker.from_dict(BioRanker().to_dict()).no_evidence_output is False


def test_fusion_by_a_weight_uses_the_first_stages_scores():
    given = [Document(id="a", content="1 x", score=5.0), Document(id="b", content="2 x", score=1.0)]
    assert ids(BioRanker(model=by_number()).run(query="q", documents=given)) == ["b", "a"]
    fused = BioRanker(model=by_number(), fusion=1.0, scale_score=False).run(query="q", documents=given)
    assert [(one.id, one.score) for one in fused["documents"]] == [("a", 1.0), ("b", 2.0 + 1.0 * (1.0 - 5.0))]


def test_stored_fusion_needs_scores_of_the_first_stage_that_it_was_fitted_to(tiny_cross_encoder_dir, tmp_path):
    folder = _model_with_settings(tiny_cross_encoder_dir, tmp_path / "fused", fusion={"lexical": 1e6})
    ranker = BioRanker(model=folder, device=CPU, dtype="float32")
    by_logit = ids(ranker.run(query=QUERY, documents=documents()))
    known = [
        Document(id=one.id, content=one.content, score=one.score, meta={FIRST_STAGE_KEY: "lexical"})
        for one in documents()
    ]
    first_stage_order = [one.id for one in known]
    assert by_logit != first_stage_order
    fused = ranker.run(query=QUERY, documents=known)["documents"]
    assert [one.id for one in fused] == first_stage_order
    # A second ranking, whose documents carry the model's scores, fuses with the same first-stage scores again.
    assert ids(ranker.run(query=QUERY, documents=fused[::-1])) == first_stage_order
    mixed = [*known[:3], *documents()[3:]]
    assert ids(ranker.run(query=QUERY, documents=mixed)) == by_logit
    assert (
        ids(BioRanker(model=folder, device=CPU, dtype="float32", fusion=None).run(query=QUERY, documents=known))
        == by_logit
    )


def test_lengths_and_batches_do_not_change_who_wins(tiny_cross_encoder_dir, ranker):
    small = BioRanker(
        model=str(tiny_cross_encoder_dir),
        device=CPU,
        batch_size=1,
        model_kwargs={"torch_dtype": torch.float32},
        tokenizer_kwargs={"model_max_length": 64},
    )
    assert ids(small.run(query=QUERY, documents=documents())) == ids(ranker.run(query=QUERY, documents=documents()))


def test_model_max_length_cuts(tiny_cross_encoder_dir, core):
    cut = BioRanker(
        model=tiny_cross_encoder_dir, device=CPU, dtype="float32", tokenizer_kwargs={"model_max_length": 12}
    )
    text = "p53 suppresses tumours in brain and liver and kidney cells"
    [found] = cut.run(query=QUERY, documents=[Document(content=text)])["documents"]
    short = BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32", max_length=12)
    assert found.score == short.rank(QUERY, [text])[0].score
    assert found.score != pytest.approx(core.score(QUERY, [text])[0], abs=1e-4)


def test_a_run_that_takes_too_long_is_stopped(tiny_cross_encoder_dir):
    hurried = BioRanker(model=tiny_cross_encoder_dir, device=CPU, timeout=1e-9)
    with pytest.raises(ScoringTimeoutError):
        hurried.run(query=QUERY, documents=documents())


# Bad input


@pytest.mark.parametrize("given", [[], numbers(1)])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": None}, "None"),
        ({"query": ""}, "empty"),
        ({"query": " \n"}, "empty"),
        ({"top_k": 0}, "top_k must be a whole number of at least 1, got 0"),
        ({"top_k": -1}, "got -1"),
        ({"top_k": True}, "got True"),
        ({"top_k": "5"}, "got '5'"),
        ({"top_k": 1.5}, "got 1.5"),
        ({"scale_score": 1}, "scale_score must be True or False, got 1"),
        ({"score_threshold": math.nan}, "score_threshold must be a finite number, got nan"),
        ({"score_threshold": "0.5"}, "got '0.5'"),
    ],
)
def test_bad_options_of_a_call_say_the_value_before_anything_is_loaded(given, options, message):
    ranker = BioRanker(model="no/such/model/anywhere", query_prefix="Q: ")
    call = {"query": "q", "documents": given, **options}
    with pytest.raises(ValueError, match=message):
        ranker.run(**call)
    with pytest.raises(ValueError, match=message):
        asyncio.run(ranker.run_async(**call))


@pytest.mark.parametrize("given", [None, "text", Document(content="1"), {"a": 1}, [Document(content="1"), "text"]])
def test_what_is_no_list_of_documents_is_refused(given):
    with pytest.raises(TypeError, match="Document"):
        BioRanker(model=by_number()).run(query="q", documents=given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k .* got 0"),
        ({"top_k": -1}, "got -1"),
        ({"top_k": True}, "got True"),
        ({"top_k": "5"}, "got '5'"),
        ({"top_k": None}, "got None"),
        ({"scale_score": "no"}, "got 'no'"),
        ({"score_threshold": math.inf}, "score_threshold .* got inf"),
        ({"min_probability": 1.5}, "min_probability .* got 1.5"),
        ({"batch_size": 0}, "batch_size .* got 0"),
        ({"max_length": 3}, "max_length .* got 3"),
        ({"query_max_length": 0}, "query_max_length .* got 0"),
        ({"deduplicate": "year"}, "'year'"),
        ({"fusion": -1}, "fusion .* got -1"),
        ({"fusion": "best"}, "got 'best'"),
        ({"timeout": 0}, "timeout .* got 0"),
        ({"template": "{title}"}, "must contain {text}"),
        ({"template": "{text}", "meta_fields_to_embed": ["year"]}, "not both"),
        ({"meta_fields_to_embed": "year"}, "must be a list"),
        ({"device": "cpu"}, "ComponentDevice"),
        ({"backend": "openvino"}, "backend='openvino' is not available. Choose one of: .*torch"),
        ({"trust_remote_code": True}, "trust_remote_code=True is not supported"),
        ({"config_kwargs": {"num_labels": 2}}, "config_kwargs: 'num_labels' cannot be passed on"),
        ({"model_kwargs": {"attn_implementation": "sdpa"}}, "model_kwargs: 'attn_implementation'.*understood: dtype"),
        ({"model_kwargs": {"dtype": "float32"}, "dtype": "bfloat16"}, "different precisions"),
        ({"tokenizer_kwargs": {"padding_side": "left"}}, "tokenizer_kwargs: 'padding_side'.*model_max_length"),
        ({"tokenizer_kwargs": {"model_max_length": "9"}}, "got '9'"),
    ],
)
def test_impossible_settings_are_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        BioRanker(**options)


def test_a_model_that_is_not_there_is_named_when_it_is_needed():
    ranker = BioRanker(model="no-such-model")
    with pytest.raises(ModelError, match="no-such-model"):
        ranker.warm_up()


# Life


def test_warming_up_and_closing_twice_is_fine(tiny_cross_encoder_dir):
    ranker = BioRanker(model=tiny_cross_encoder_dir, device=CPU, dtype="float32")
    ranker.close()
    ranker.warm_up()
    asyncio.run(ranker.warm_up_async())
    first = ranker.run(query=QUERY, documents=documents())
    ranker.warm_up()
    ranker.close()
    ranker.close()
    assert ranker.run(query=QUERY, documents=documents()) == first


def test_a_copy_and_a_pickle_keep_the_settings(ranker):
    expected = ranker.run(query=QUERY, documents=documents())
    for twin in (copy.deepcopy(ranker), pickle.loads(pickle.dumps(ranker))):
        assert twin.to_dict() == ranker.to_dict()
        assert twin.run(query=QUERY, documents=documents()) == expected


def test_threads_share_one_model(tiny_cross_encoder_dir):
    ranker = BioRanker(model=tiny_cross_encoder_dir, device=CPU, dtype="float32")
    results = [None] * 6
    threads = [
        threading.Thread(target=lambda n=n: results.__setitem__(n, ranker.run(query=QUERY, documents=documents())))
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(result == ranker.run(query=QUERY, documents=documents()) for result in results)


def test_the_event_loop_runs_on_while_a_model_is_loaded_and_works():
    class Slow:
        def logits(self, query, texts):
            time.sleep(0.3)
            return [0.0] * len(texts)

    async def beats() -> int:
        count = 0
        running = asyncio.create_task(BioRanker(model=Slow()).run_async(query="q", documents=numbers(1)))
        while not running.done():
            await asyncio.sleep(0.01)
            count += 1
        await running
        return count

    assert asyncio.run(beats()) >= 5


# Saved settings


def test_settings_survive_saving(tiny_cross_encoder_dir):
    settings = {
        "model": str(tiny_cross_encoder_dir),
        "device": ComponentDevice.from_str("cuda:1"),
        "token": Secret.from_env_var("SOME_TOKEN"),
        "top_k": 3,
        "query_prefix": "a",
        "query_suffix": "b",
        "document_prefix": "c",
        "document_suffix": "d",
        "meta_fields_to_embed": ["year"],
        "embedding_separator": " ",
        "scale_score": False,
        "score_threshold": 0.0,
        "model_kwargs": {"torch_dtype": torch.bfloat16},
        "tokenizer_kwargs": {"model_max_length": 99},
        "batch_size": 4,
        "max_length": 256,
        "query_max_length": 32,
        "min_probability": 0.0,
        "deduplicate": ("id", "doi"),
        "fusion": 0,
        "timeout": 5,
        "revision": "main",
        "cache_folder": Path("somewhere"),
        "local_files_only": True,
    }
    ranker = BioRanker(**settings)
    saved = ranker.to_dict()
    assert saved["type"] == "haystack_integrations.components.rankers.biorerank.ranker.BioRanker"
    parameters = saved["init_parameters"]
    assert json.loads(json.dumps(saved)) == saved
    assert parameters["device"] == {"type": "single", "device": "cuda:1"}
    assert parameters["token"] == {"type": "env_var", "env_vars": ["SOME_TOKEN"], "strict": True}
    assert parameters["model_kwargs"] == {"torch_dtype": "torch.bfloat16"}
    assert (parameters["deduplicate"], parameters["fusion"], parameters["timeout"]) == (["id", "doi"], 0.0, 5.0)
    assert ranker.model_kwargs == {"torch_dtype": torch.bfloat16}
    before = copy.deepcopy(saved)
    again = BioRanker.from_dict(saved)
    assert saved == before
    assert again.to_dict() == saved
    assert (again.device, again.token) == (settings["device"], settings["token"])


def test_defaults_are_saved_as_they_are():
    parameters = BioRanker(dtype=torch.float32).to_dict()["init_parameters"]
    assert parameters["dtype"] == "torch.float32"
    assert parameters["device"] is None and parameters["model"] is None
    assert BioRanker.from_dict(BioRanker().to_dict()).to_dict() == BioRanker().to_dict()
    assert BioRanker(model=DEFAULT_RERANKER).to_dict()["init_parameters"]["model"] == DEFAULT_RERANKER


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": by_number()}, "ScriptedScorer object, which cannot be saved.*folder"),
        ({"template": lambda passage: passage.text}, "template is a function, which cannot be saved"),
        ({"token": Secret.from_token("abc")}, "token-based secret"),
    ],
)
def test_what_cannot_be_saved_says_what_to_pass_instead(options, message):
    with pytest.raises(ValueError, match=message):
        BioRanker(**options).to_dict()
